import Foundation

/// The app's loop, entry for entry that of device_agents/app.py; the shared fixtures hold both to it.
public struct Agent {
    public let mailbox: Mailbox
    public let engine: any Engine
    public let append: Append

    public init(_ folder: URL, _ engine: any Engine, append: @escaping Append = appendDurably) {
        mailbox = Mailbox(folder)
        self.engine = engine
        self.append = append
    }

    /// One launch: forget what the host has taken, then work on the job that it orders.
    /// Throws what the disk does; gives the id of the job that was worked on.
    @discardableResult
    public func start() throws -> String? {
        let orders = mailbox.folder.appendingPathComponent(Mailbox.ordersName)
        guard let bytes = try mailbox.read(orders), let orders = try? Orders.parse(bytes) else { return nil }
        for id in orders.forget { try mailbox.forget(id) }
        guard !orders.run.isEmpty, let job = try mailbox.read(mailbox.place(orders.run, "job.json")) else {
            return nil
        }
        try run(orders.run, job)
        return orders.run
    }

    private func run(_ id: String, _ bytes: [UInt8]) throws {
        let journal = try openJournal(id)
        if journal.isEnded { return }
        do {
            let job = try DeviceJob.parse(bytes)
            guard job.jobID == id else { throw FormError("the mailbox of \(id) holds job \(job.jobID)") }
            try Launch(job, mailbox, journal, engine).go()
        } catch let error as FormError {
            try journal.write("failed", failed("bad_job", "job", error.description), timeNs: engine.utcNs())
        }
    }

    private func openJournal(_ id: String) throws -> JournalFile {
        let url = mailbox.place(id, "journal.jsonl")
        do {
            return try JournalFile(url, jobID: id, append: append)
        } catch is FormError {
            let aside = mailbox.place(id, "journal.damaged")
            if FileManager.default.fileExists(atPath: aside.path) { try FileManager.default.removeItem(at: aside) }
            try FileManager.default.moveItem(at: url, to: aside)
            return try JournalFile(url, jobID: id, append: append)
        }
    }
}

func failed(_ problem: String, _ stage: String, _ message: String) -> JSONValue {
    let short = String(String.UnicodeScalarView(message.unicodeScalars.prefix(4096)))
    return .object(["problem": .string(problem), "stage": .string(stage), "message": .string(short)])
}

private final class Launch {
    private let job: DeviceJob
    private let mailbox: Mailbox
    private let journal: JournalFile
    private let engine: any Engine
    private var stage = "job"

    init(_ job: DeviceJob, _ mailbox: Mailbox, _ journal: JournalFile, _ engine: any Engine) {
        self.job = job
        self.mailbox = mailbox
        self.journal = journal
        self.engine = engine
    }

    func go() throws {
        do {
            try steps()
        } catch let error as EngineError {
            try write("failed", failed(error.problem, stage, error.message))
        }
    }

    private func steps() throws {
        if journal.entries.isEmpty {
            try write("received", engine.facts().json)
        } else {
            try noteInterruption()
        }
        let inputs = cut(try checked(job.inputs.file, job.inputs.sizeBytes, job.inputs.sha256))
        try compile()
        try loads()
        try engine.setInputs(inputs)
        if job.placement && journal.all("placement").isEmpty {
            try begin("placement")
            let operations = try engine.placement().map(\.json)
            try write("placement", .object(["operations": .array(operations)]))
        }
        if job.outputs && journal.all("outputs").isEmpty { try outputs() }
        try rounds(inputs)
    }

    /// The launch before died in the step that it had begun; after too many times, so does the job.
    private func noteInterruption() throws {
        guard let last = journal.entries.last, last.kind == "begin" else { return }
        try write("interrupted", last.body)
        let times = journal.all("interrupted").filter {
            $0["stage"] == last["stage"] && $0["round_index"] == last["round_index"]
        }.count
        guard times >= job.maxInterruptions, case .string(let stage)? = last["stage"],
            case .integer(let index)? = last["round_index"]
        else { return }
        self.stage = stage
        let place = stage == "round" ? "round \(index)" : "the step '\(stage)'"
        throw EngineError("app_killed", "the app was killed \(times) times in \(place)")
    }

    private func checked(_ file: String, _ size: Int, _ sha256: String) throws -> [UInt8] {
        let data = try mailbox.read(mailbox.place(job.jobID, file)) ?? []
        guard data.count == size, SHA256.hex(data) == sha256 else {
            throw EngineError("bad_model", "\(file) is not the file that the job names")
        }
        return data
    }

    private var compiled: URL { mailbox.place(job.jobID, "compiled") }

    private func compile() throws {
        if !journal.all("compiled").isEmpty && engine.isCompiled(compiled) { return }
        _ = try checked(job.model.file, job.model.sizeBytes, job.model.sha256)
        try begin("compile")
        try engine.prepare(job, model: mailbox.place(job.jobID, job.model.file), compiled: compiled)
        let start = engine.clockNs()
        try engine.compile()
        try write("compiled", .object(["duration_ns": .integer(try since(start))]))
    }

    /// The first launch loads cold, then warm; a later one loads once.
    private func loads() throws {
        let first = !journal.all("begin").contains { $0["stage"] == .string("load") }
        try load(cold: first)
        for _ in 0..<(first ? job.warmLoads : 0) {
            engine.unload()
            try load(cold: false)
        }
    }

    private func load(cold: Bool) throws {
        try begin("load")
        let start = engine.clockNs()
        try engine.load(job, compiled: compiled)
        try write("loaded", .object(["cold": .bool(cold), "duration_ns": .integer(try since(start))]))
    }

    /// All of them for the check on the host, written whole before the entry that names them.
    private func outputs() throws {
        try begin("outputs")
        let data = try (0..<job.inputs.sets).flatMap { try engine.outputs($0).flatMap { $0 } }
        try Data(data).write(to: mailbox.place(job.jobID, "outputs.bin"), options: .atomic)
        let tensors = try engine.outputTensors().map(\.json)
        try write("outputs", .object([
            "sha256": .string(SHA256.hex(data)), "size_bytes": .integer(Int64(data.count)),
            "sets": .integer(Int64(job.inputs.sets)), "tensors": .array(tensors),
        ]))
    }

    private func rounds(_ inputs: [[[UInt8]]]) throws {
        let taken = Set(journal.all("round").compactMap { entry -> Int64? in
            guard case .integer(let index)? = entry["round_index"] else { return nil }
            return index
        })
        let left = (0..<job.timing.rounds).filter { !taken.contains($0) }
        for (number, index) in left.prefix(job.roundsPerLaunch).enumerated() {
            if number > 0 {
                engine.unload()
                try load(cold: false)
                try engine.setInputs(inputs)
            }
            try round(index)
        }
        let rest = left.count - job.roundsPerLaunch
        if rest > 0 {
            try write("closed", .object(["rounds_left": .integer(Int64(rest))]))
        } else {
            try write("finished", .object(["rounds": .integer(job.timing.rounds)]))
        }
    }

    private func round(_ index: Int64) throws {
        try begin("round", index)
        let loop = TimingLoop(engine: engine, inputs: job.inputs.sets, timing: job.timing)
        let before = engine.conditions()
        let startedAt = engine.utcNs()
        let start = engine.clockNs()
        let warm = try loop.warmUp()
        let between = engine.clockNs()
        let samples = try loop.take(warm)
        let end = engine.clockNs()
        try write("round", .object([
            "round_index": .integer(index), "loop_count": .integer(Int64(warm.loopCount)),
            "steady": .bool(warm.steady), "started_at_ns": .integer(startedAt),
            "warmup_span_ns": .integer(between - start), "timed_span_ns": .integer(end - between),
            "samples_ns": .array(samples.map { .integer($0) }),
            "warmup_ns": .array(warm.samplesNs.map { .integer($0) }),
            "before": before.json, "after": engine.conditions().json,
        ]))
    }

    private func since(_ start: Int64) throws -> Int64 {
        let elapsed = engine.clockNs() - start
        guard elapsed > 0 else { throw EngineError("clock_failed", "\(stage) took \(elapsed) ns by this clock") }
        return elapsed
    }

    private func begin(_ stage: String, _ index: Int64 = -1) throws {
        self.stage = stage
        try write("begin", .object([
            "stage": .string(stage), "round_index": .integer(index),
            "available_memory_bytes": .integer(engine.conditions().availableMemoryBytes),
        ]))
    }

    private func write(_ kind: String, _ body: JSONValue) throws {
        try journal.write(kind, body, timeNs: engine.utcNs())
    }

    /// Per set, the bytes of each tensor.
    private func cut(_ data: [UInt8]) -> [[[UInt8]]] {
        var place = 0
        return (0..<job.inputs.sets).map { _ in
            job.inputs.tensors.map { tensor in
                defer { place += tensor.sizeBytes }
                return Array(data[place..<place + tensor.sizeBytes])
            }
        }
    }
}
