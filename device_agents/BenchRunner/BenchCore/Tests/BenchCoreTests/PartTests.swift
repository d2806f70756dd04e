import Foundation
import XCTest

@testable import BenchCore

final class PartTests: XCTestCase {
    func testSHA256OfThePublishedVectors() {
        XCTAssertEqual(SHA256.hex([]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        XCTAssertEqual(
            SHA256.hex("abc".utf8), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        let million = [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000)
        XCTAssertEqual(SHA256.hex(million), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }

    func testSHA256InPiecesOfAnyLength() {
        let data = (0..<300).map { UInt8($0 % 251) }
        for cut in 0...130 {
            var hash = SHA256()
            hash.update(data[..<cut])
            hash.update(data[cut...])
            XCTAssertEqual(hash.finish(), SHA256.hex(data))
        }
    }

    func testJSONHasOneText() throws {
        let text = Array(#"{"a":[1,-2,true,false,"\u0001\n\"\\ü"],"b":{},"c":[]}"#.utf8)
        XCTAssertEqual(try JSONValue.parse(text, "x", maxBytes: 100).canonical(), text)
        for other in [#"{"b":1,"a":1}"#, #"{"a": 1}"#, #"{"a":01}"#, #"{"a":+1}"#, #"{"a":-0}"#, #"{"a":null}"#,
            #"{"a":"\u00fc"}"#, #"{"a":1.0}"#, #"{"a":"\/"}"#, #"{"a":1,}"#, #"{"a"}"#, "", "{", #"{"a":tru}"#] {
            XCTAssertThrowsError(try JSONValue.parse(Array(other.utf8), "x", maxBytes: 100), other)
        }
        XCTAssertThrowsError(try JSONValue.parse(text, "x", maxBytes: 10))
    }

    func testNamesLeadNowhereElse() {
        for name in ["model.zip", "a", "A-b_c.tar.gz"] { XCTAssert(Names.isFileName(name), name) }
        for name in ["", ".", "..", "../a", "a/b", "/a", ".a", "a..b", "a.", "a.b.c.d", "a\u{0}", "ä", "a b"] {
            XCTAssertFalse(Names.isFileName(name), name)
        }
        for name in ["Data/x", "Manifest.json"] { XCTAssert(StoredZip.isSafe(name), name) }
        for name in ["", "/x", "../x", "a/../b", "a//b", "a/", "a\\b", "c:x", "ä", "a b"] {
            XCTAssertFalse(StoredZip.isSafe(name), name)
        }
    }

    func testAnArchiveThatIsNotStoredPlainlyIsRefused() throws {
        let url = SharedFixtureTests.fixtures
        let name = try FileManager.default.contentsOfDirectory(atPath: url.path).first { $0.hasSuffix("model.zip") }!
        let good = [UInt8](try Data(contentsOf: url.appendingPathComponent(name)))
        XCTAssertNoThrow(try StoredZip(good))
        for cut in stride(from: 0, to: good.count - 200, by: 7) {
            XCTAssertThrowsError(try StoredZip(Array(good[..<cut])))
        }
        for place in [6, 8, 18, 22, 26, 28] {
            var changed = good
            changed[place] ^= 1
            XCTAssertThrowsError(try StoredZip(changed), "byte \(place)")
        }
        XCTAssertThrowsError(try StoredZip(Array("PK\u{3}\u{4}".utf8)))
    }

    /// A package without weights: its manifest names their folder, which no file is in.
    func testTheFolderThatAManifestNamesIsThere() throws {
        let model = "Data/com.apple.CoreML/model.mlmodel"
        let (one, two) = (#""1":{"path":"com.apple.CoreML/model.mlmodel"}"#, #""2":{"path":"com.apple.CoreML/weights"}"#)
        for (items, isThere) in [("\(one),\(two)", true), (one, false)] {
            let manifest = "{\"itemInfoEntries\":{\(items)},\"rootModelIdentifier\":\"1\"}"
            let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
            defer { try? FileManager.default.removeItem(at: folder) }
            try StoredZip(stored([(model, "abc"), ("Manifest.json", manifest)])).extractPackage(to: folder)
            XCTAssertEqual(try String(contentsOf: folder.appendingPathComponent(model), encoding: .utf8), "abc")
            let weights = folder.appendingPathComponent("Data/com.apple.CoreML/weights").path
            XCTAssertEqual(FileManager.default.fileExists(atPath: weights), isThere)
        }
    }

    func testAManifestThatIsNoneOrLeadsOutIsRefused() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: folder) }
        let nested = String(repeating: "[", count: 100_000)
        let names = ["../../x", "/etc", "a b", ""].map { #"{"itemInfoEntries":{"2":{"path":"\#($0)"}},"rootModelIdentifier":"1"}"# }
        for text in ["", "{}", "[]", nested, #"{"itemInfoEntries":{"2":3},"rootModelIdentifier":"1"}"#] + names {
            XCTAssertThrowsError(try StoredZip(stored([("Manifest.json", text)])).extractPackage(to: folder)) {
                XCTAssert($0 is FormError, text)
            }
        }
        XCTAssertThrowsError(try StoredZip(stored([("x", "abc")])).extractPackage(to: folder)) {
            XCTAssert($0 is FormError)
        }
    }

    /// An archive of the host's form, as far as the reader reads it.
    private func stored(_ files: [(String, String)]) -> [UInt8] {
        func number(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(value >> (8 * $0) & 0xff) } }
        let entries = files.flatMap { name, text -> [UInt8] in
            let size = number(text.utf8.count, 4)
            return number(0x0403_4b50, 4) + number(0, 14) + size + size + number(name.utf8.count, 2) + number(0, 2)
                + Array(name.utf8) + Array(text.utf8)
        }
        return entries + number(0x0201_4b50, 4)
    }

    func testJournalLinesThatDoNotFollowAreRefused() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: url) }
        let id = "0123456789abcdef"
        let file = try JournalFile(url, jobID: id)
        for number in 0..<3 { try file.write("begin", .object(["n": .integer(Int64(number))]), timeNs: 5) }
        let lines = try Data(contentsOf: url).split(separator: 0x0a).map { [UInt8]($0) + [0x0a] }
        XCTAssertEqual(lines.count, 3)
        let wrong = [
            [lines[0], lines[2]], [lines[1]], [lines[0], lines[0]], [lines[0], lines[1], lines[1]],
            [lines[0], Array(String(decoding: lines[1], as: UTF8.self).replacingOccurrences(of: "5", with: "6").utf8)],
        ]
        for journal in wrong {
            try Data(journal.flatMap { $0 }).write(to: url)
            XCTAssertThrowsError(try JournalFile(url, jobID: id))
        }
        try Data(lines[0] + lines[1] + lines[2].dropLast(3)).write(to: url)
        let torn = try JournalFile(url, jobID: id)
        XCTAssertEqual(torn.entries.count, 2)
        XCTAssertEqual(try Data(contentsOf: url).count, lines[0].count + lines[1].count)
        XCTAssertEqual(torn.launch, 1)
    }

    func testSamplesThatGoBackwardsOrStandStillAreAnError() throws {
        final class Broken: Engine {
            var step: Int64
            var now: Int64 = 1_000_000_000
            init(_ step: Int64) { self.step = step }
            func clockNs() -> Int64 { now }
            func utcNs() -> Int64 { now }
            func facts() -> Facts { Facts(agent: "", deviceModel: "", os: "", osBuild: "", runtime: "") }
            func conditions() -> Conditions {
                Conditions(
                    thermalState: "unknown", batteryPermille: -1, charging: false, lowPowerMode: false,
                    memoryBytes: -1, availableMemoryBytes: -1)
            }
            func prepare(_ job: DeviceJob, model: URL, compiled: URL) {}
            func compile() {}
            func isCompiled(_ compiled: URL) -> Bool { true }
            func load(_ job: DeviceJob, compiled: URL) {}
            func unload() {}
            func setInputs(_ sets: [[[UInt8]]]) {}
            func predict(_ index: Int) { now += step }
            func outputs(_ index: Int) -> [[UInt8]] { [] }
            func outputTensors() -> [Tensor] { [] }
            func placement() -> [PlacedOperation] { [] }
        }
        for step: Int64 in [0, -1000] {
            let loop = TimingLoop(engine: Broken(step), inputs: 2, timing: DeviceTiming(minSampleNs: 1000))
            XCTAssertThrowsError(try loop.warmUp()) { XCTAssertEqual(($0 as? EngineError)?.problem, "clock_failed") }
        }
        let loop = TimingLoop(engine: Broken(100), inputs: 2, timing: DeviceTiming(roundNs: 1_000_000, minSampleNs: 1000))
        let warm = try loop.warmUp()
        XCTAssertEqual(warm.loopCount, 12)
        XCTAssertEqual(Set(try loop.take(warm)), [1200])
    }

    func testEveryInputTakesItsTurn() {
        XCTAssertEqual(TimingLoop.rotation(4, 1), [[0], [1], [2], [3]])
        XCTAssertEqual(TimingLoop.rotation(4, 6), [[0, 1, 2, 3, 0, 1], [2, 3, 0, 1, 2, 3]])
    }
}
