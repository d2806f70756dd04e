import Foundation
import XCTest

@testable import BenchCore

/// The files in tests/device_agents/fixtures, which the Python side is tested with too.
final class SharedFixtureTests: XCTestCase {
    private var mailbox = FileManager.default.temporaryDirectory

    static let fixtures: URL = {
        if let given = ProcessInfo.processInfo.environment["BENCH_FIXTURES"] {
            return URL(fileURLWithPath: given, isDirectory: true)
        }
        return (0..<6).reduce(URL(fileURLWithPath: #filePath)) { url, _ in url.deletingLastPathComponent() }
            .appendingPathComponent("tests/device_agents/fixtures", isDirectory: true)
    }()

    override func setUpWithError() throws {
        mailbox = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: mailbox, withIntermediateDirectories: true)
        for file in try FileManager.default.contentsOfDirectory(atPath: Self.fixtures.path)
        where !file.hasSuffix("journal.jsonl") && file != "refused.json" {
            try FileManager.default.copyItem(
                at: Self.fixtures.appendingPathComponent(file), to: mailbox.appendingPathComponent(file))
        }
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: mailbox)
    }

    private func bytes(_ url: URL) throws -> [UInt8] { [UInt8](try Data(contentsOf: url)) }

    private func jobID() throws -> String {
        try Orders.parse(bytes(mailbox.appendingPathComponent("orders.json"))).run
    }

    private func expected() throws -> [UInt8] {
        try bytes(Self.fixtures.appendingPathComponent("\(jobID()).journal.jsonl"))
    }

    private func journal() throws -> [UInt8] { try bytes(mailbox.appendingPathComponent("\(jobID()).journal.jsonl")) }

    func testTheJournalIsThatOfPythonByteForByte() throws {
        let engine = SimulatedEngine()
        for _ in 0..<3 { try Agent(mailbox, engine).start() }
        XCTAssertEqual(String(decoding: try journal(), as: UTF8.self), String(decoding: try expected(), as: UTF8.self))
        let inputs = try bytes(mailbox.appendingPathComponent("\(jobID()).inputs.bin"))
        XCTAssertEqual(try bytes(mailbox.appendingPathComponent("\(jobID()).outputs.bin")), inputs)
    }

    func testALaunchAfterTheEndWritesNothing() throws {
        let engine = SimulatedEngine()
        for _ in 0..<5 { try Agent(mailbox, engine).start() }
        XCTAssertEqual(try journal(), try expected())
    }

    func testKilledAtAnyAppendItLosesAndDoublesNoRound() throws {
        struct Killed: Error {}
        for share in [0.0, 0.5, 1.0] {
            for victim in 0..<35 {
                try tearDownWithError()
                try setUpWithError()
                let engine = SimulatedEngine()
                var count = 0
                let append: Append = { url, line in
                    defer { count += 1 }
                    guard count == victim else { return try appendDurably(url, line) }
                    try appendDurably(url, Array(line.prefix(Int(Double(line.count) * share))))
                    throw Killed()
                }
                for _ in 0..<6 {
                    do { try Agent(mailbox, engine, append: append).start() } catch is Killed {}
                }
                let file = try JournalFile(
                    mailbox.appendingPathComponent("\(jobID()).journal.jsonl"), jobID: jobID())
                XCTAssertEqual(file.entries.last?.kind, "finished", "killed at \(victim), share \(share)")
                XCTAssertEqual(
                    file.all("round").map { $0["round_index"] }, [.integer(0), .integer(1), .integer(2)])
            }
        }
    }

    func testAStepThatKillsTheAppTwiceEndsTheJob() throws {
        struct Killed: Error {}
        let engine = SimulatedEngine()
        let append: Append = { url, line in
            try appendDurably(url, line)
            let text = String(decoding: line, as: UTF8.self)
            if text.contains("\"kind\":\"begin\"") && text.contains("\"stage\":\"load\"") { throw Killed() }
        }
        for _ in 0..<4 {
            do { try Agent(mailbox, engine, append: append).start() } catch is Killed {}
        }
        let last = try JournalFile(
            mailbox.appendingPathComponent("\(jobID()).journal.jsonl"), jobID: jobID()
        ).entries.last
        XCTAssertEqual(last?["problem"], .string("app_killed"))
        XCTAssertEqual(last?["stage"], .string("load"))
    }

    func testWhatTheEngineRefusesEndsTheJob() throws {
        let engine = SimulatedEngine()
        engine.refuses = ["compile": EngineError("specification_too_new", "in its own words")]
        try Agent(mailbox, engine).start()
        let file = try JournalFile(mailbox.appendingPathComponent("\(jobID()).journal.jsonl"), jobID: jobID())
        XCTAssertEqual(file.entries.last?["problem"], .string("specification_too_new"))
        XCTAssertEqual(file.entries.last?["stage"], .string("compile"))
    }

    func testADamagedModelIsRefused() throws {
        try Data("other".utf8).write(to: mailbox.appendingPathComponent("\(jobID()).model.zip"))
        try Agent(mailbox, SimulatedEngine()).start()
        let file = try JournalFile(mailbox.appendingPathComponent("\(jobID()).journal.jsonl"), jobID: jobID())
        XCTAssertEqual(file.entries.last?["problem"], .string("bad_model"))
    }

    func testJobsAreForgottenWhenTheHostHasThem() throws {
        let id = try jobID()
        try Agent(mailbox, SimulatedEngine()).start()
        let text = "{\"forget\":[\"\(id)\"],\"format\":\"deploybench device orders\",\"run\":\"\",\"schema\":1}"
        try Data(text.utf8).write(to: mailbox.appendingPathComponent("orders.json"))
        try Agent(mailbox, SimulatedEngine()).start()
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: mailbox.path), ["orders.json"])
    }

    func testEveryRefusedJobIsRefused() throws {
        struct Refused: Decodable {
            struct Row: Decodable {
                let why: String
                let hex: String
                let nested: Bool
            }
            let jobs: [Row]
        }
        let data = try Data(contentsOf: Self.fixtures.appendingPathComponent("refused.json"))
        let rows = try JSONDecoder().decode(Refused.self, from: data).jobs
        XCTAssertGreaterThan(rows.count, 25)
        for row in rows {
            var job = row.nested
                ? Array("{\"a\":".utf8) + [UInt8](repeating: 0x5b, count: 100_000) : [UInt8]()
            var digits = Array(row.hex.utf8)[...]
            while let high = digits.popFirst(), let low = digits.popFirst() {
                job.append(UInt8(String(decoding: [high, low], as: UTF8.self), radix: 16)!)
            }
            XCTAssertThrowsError(try DeviceJob.parse(job), row.why) { XCTAssert($0 is FormError, row.why) }
        }
    }

    func testTheJobIsRead() throws {
        let job = try DeviceJob.parse(bytes(mailbox.appendingPathComponent("\(jobID()).job.json")))
        XCTAssertEqual(job.inputs.tensors.first?.shape, [1, 3, 4, 4])
        XCTAssertEqual(job.timing.rounds, 3)
        XCTAssertEqual(job.model.minimumOS, "16.0")
    }

    func testThePackageIsUnpacked() throws {
        let archive = try StoredZip(bytes(mailbox.appendingPathComponent("\(jobID()).model.zip")))
        XCTAssertEqual(archive.names, ["Data/com.apple.CoreML/model.mlmodel", "Manifest.json"])
        let folder = mailbox.appendingPathComponent("x.mlpackage")
        try archive.extract(to: folder)
        let model = try bytes(folder.appendingPathComponent("Data/com.apple.CoreML/model.mlmodel"))
        XCTAssertEqual(model, Array(0..<64))
    }
}
