/// What a device is told: `job.json`, schema 1. The fields are those of device_agents/job.py.
public struct Tensor: Equatable, Sendable {
    public static let itemBytes: [String: Int] = ["float16": 2, "float32": 4, "int32": 4]

    public let name: String
    public let dtype: String
    public let shape: [Int]

    public init(name: String, dtype: String, shape: [Int]) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
    }

    /// -1 where it is more than a machine can hold.
    public var sizeBytes: Int {
        var size = Tensor.itemBytes[dtype]!
        for side in shape {
            let (product, overflow) = size.multipliedReportingOverflow(by: side)
            if overflow { return -1 }
            size = product
        }
        return size
    }

    static func of(_ form: Form) throws -> Tensor {
        Tensor(
            name: try form.text("name", most: 256),
            dtype: try form.oneOf("dtype", Array(itemBytes.keys)),
            shape: try form.integers("shape", most: 8, least: 1, highest: 1 << 24).map(Int.init)
        )
    }

    var json: JSONValue {
        .object(["name": .string(name), "dtype": .string(dtype), "shape": .array(shape.map { .integer(Int64($0)) })])
    }

    /// The bytes of `sets` sets of all tensors; -1 where it is more than a machine can hold.
    static func total(_ tensors: [Tensor], sets: Int) -> Int {
        var sum = 0
        for tensor in tensors {
            guard tensor.sizeBytes >= 0, sum < 1 << 40 else { return -1 }
            sum += tensor.sizeBytes
        }
        return sum < 1 << 40 ? sum * sets : -1
    }
}

public struct ModelFile: Equatable, Sendable {
    public let file: String
    public let format: String
    public let sha256: String
    public let sizeBytes: Int
    public let minimumOS: String

    static func of(_ form: Form) throws -> ModelFile {
        ModelFile(
            file: try form.text("file", where: Names.isFileName),
            format: try form.oneOf("format", ["mlpackage-zip", "onnx"]),
            sha256: try form.text("sha256") { Names.isHex($0, 64) },
            sizeBytes: Int(try form.integer("size_bytes", 1, 2 << 30)),
            minimumOS: try form.text("minimum_os", where: Names.isVersion)
        )
    }
}

public struct InputFile: Equatable, Sendable {
    public let file: String
    public let sha256: String
    public let sizeBytes: Int
    public let sets: Int
    public let tensors: [Tensor]

    static func of(_ form: Form) throws -> InputFile {
        let made = InputFile(
            file: try form.text("file", where: Names.isFileName),
            sha256: try form.text("sha256") { Names.isHex($0, 64) },
            sizeBytes: Int(try form.integer("size_bytes", 1, 1 << 30)),
            sets: Int(try form.integer("sets", 1, 64)),
            tensors: try form.forms("tensors", most: 16, Tensor.of)
        )
        guard made.sizeBytes == Tensor.total(made.tensors, sets: made.sets) else {
            throw FormError("inputs: \(made.sizeBytes) bytes are not \(made.sets) sets of the tensors listed")
        }
        return made
    }
}

public struct DeviceTiming: Equatable, Sendable {
    static let hourNs: Int64 = 3600 * 1_000_000_000

    public var rounds: Int64
    public var warmupNs: Int64
    public var maxWarmupNs: Int64
    public var roundNs: Int64
    public var minSampleNs: Int64
    public var minSamples: Int64

    public init(
        rounds: Int64 = 5, warmupNs: Int64 = 200_000_000, maxWarmupNs: Int64 = 3_000_000_000,
        roundNs: Int64 = 600_000_000, minSampleNs: Int64 = 1_000_000, minSamples: Int64 = 5
    ) {
        self.rounds = rounds
        self.warmupNs = warmupNs
        self.maxWarmupNs = maxWarmupNs
        self.roundNs = roundNs
        self.minSampleNs = minSampleNs
        self.minSamples = minSamples
    }

    static func of(_ form: Form) throws -> DeviceTiming {
        DeviceTiming(
            rounds: try form.integer("rounds", 1, 1000),
            warmupNs: try form.integer("warmup_ns", 0, hourNs),
            maxWarmupNs: try form.integer("max_warmup_ns", 1, hourNs),
            roundNs: try form.integer("round_ns", 1, hourNs),
            minSampleNs: try form.integer("min_sample_ns", 1, hourNs),
            minSamples: try form.integer("min_samples", 1, 1 << 20)
        )
    }
}

public struct DeviceJob: Equatable, Sendable {
    public static let format = "deploybench device job"
    public static let schema: Int64 = 1
    public static let computeUnits = ["cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all"]

    public let jobID: String
    public let caseID: String
    public let model: ModelFile
    public let inputs: InputFile
    public let computeUnit: String
    public let timing: DeviceTiming
    public let warmLoads: Int
    public let roundsPerLaunch: Int
    public let maxInterruptions: Int
    public let outputs: Bool
    public let placement: Bool
    public let attempt: Int64

    /// Throws FormError for anything that the host of this version cannot have written.
    public static func parse(_ bytes: [UInt8]) throws -> DeviceJob {
        let value = try JSONValue.parse(bytes, "job", maxBytes: 1 << 20)
        let job = try Form.whole(value, "job", of)
        guard case .object(var content) = value else { throw FormError("job: no table") }
        for name in ["format", "schema", "job_id"] { content[name] = nil }
        let found = String(SHA256.hex(JSONValue.object(content).canonical()).prefix(16))
        guard job.jobID == found else {
            throw FormError("job_id \(job.jobID) is not that of the job's content (\(found))")
        }
        return job
    }

    private static func of(_ form: Form) throws -> DeviceJob {
        _ = try form.oneOf("format", [format])
        let found = try form.integer("schema", 1)
        guard found == schema else {
            throw FormError("job has schema \(found), this version reads \(schema): update the older side")
        }
        return DeviceJob(
            jobID: try form.text("job_id") { Names.isHex($0, 16) },
            caseID: try form.text("case_id") { Names.isHex($0, 16) },
            model: try form.form("model", ModelFile.of),
            inputs: try form.form("inputs", InputFile.of),
            computeUnit: try form.oneOf("compute_unit", computeUnits),
            timing: try form.form("timing", DeviceTiming.of),
            warmLoads: Int(try form.integer("warm_loads", 0, 100)),
            roundsPerLaunch: Int(try form.integer("rounds_per_launch", 1, 1000)),
            maxInterruptions: Int(try form.integer("max_interruptions", 1, 10)),
            outputs: try form.boolean("outputs"),
            placement: try form.boolean("placement"),
            attempt: try form.integer("attempt", 0, 1_000_000)
        )
    }
}
