import Foundation

/// A described network on a clock of its own, the same as in device_agents/simulated_engine.py.
public final class SimulatedEngine: Engine {
    public var latencyNs: Int64 = 2_000_000
    public var refuses: [String: EngineError] = [:]
    private var nowNs: Int64 = 0
    private var predictions: Int64 = 0
    private var loads = 0
    private var sets: [[[UInt8]]] = []
    private var job: DeviceJob?
    private var compiled: URL?

    public init() {}

    public func clockNs() -> Int64 { 1_000_000_000 + nowNs }
    public func utcNs() -> Int64 { 1_700_000_000_000_000_000 + nowNs }

    public func facts() -> Facts {
        Facts(
            agent: "simulated 1", deviceModel: "simulated phone", os: "simulated 1.0", osBuild: "0",
            runtime: "simulated engine")
    }

    public func conditions() -> Conditions {
        Conditions(
            thermalState: "nominal", batteryPermille: 800, charging: true, lowPowerMode: false,
            memoryBytes: 120_000_000, availableMemoryBytes: 2_000_000_000)
    }

    public func prepare(_ job: DeviceJob, model: URL, compiled: URL) { self.compiled = compiled }

    public func compile() throws {
        try refuse("compile")
        nowNs += 800_000_000
        try FileManager.default.createDirectory(at: compiled!, withIntermediateDirectories: true)
    }

    public func isCompiled(_ compiled: URL) -> Bool { FileManager.default.fileExists(atPath: compiled.path) }

    public func load(_ job: DeviceJob, compiled: URL) throws {
        try refuse("load")
        nowNs += loads > 0 ? 40_000_000 : 300_000_000
        loads += 1
        predictions = 0
        self.job = job
    }

    public func unload() { sets = [] }

    public func setInputs(_ sets: [[[UInt8]]]) { self.sets = sets }

    public func predict(_ index: Int) throws {
        try refuse("predict")
        let extra = predictions < 20 ? latencyNs / 10 : 0
        nowNs += latencyNs + extra + 7919 * predictions % 1000
        predictions += 1
    }

    public func outputs(_ index: Int) throws -> [[UInt8]] {
        try predict(index)
        return sets[index]
    }

    public func outputTensors() -> [Tensor] {
        job!.inputs.tensors.map { Tensor(name: "\($0.name)_out", dtype: $0.dtype, shape: $0.shape) }
    }

    public func placement() throws -> [PlacedOperation] {
        try refuse("placement")
        let accelerators = ["neural_engine", "gpu", "cpu"]
        let unit = job!.computeUnit
        let fast = ["cpuAndNeuralEngine", "all"].contains(unit) ? "neural_engine" : unit == "cpuAndGPU" ? "gpu" : "cpu"
        return [
            PlacedOperation(
                name: "x_1", operatorName: "ios16.conv", preferred: fast, supported: accelerators,
                costPpb: 600_000_000),
            PlacedOperation(
                name: "x_2", operatorName: "ios16.softmax", preferred: fast, supported: accelerators,
                costPpb: 250_000_000),
            PlacedOperation(
                name: "x_3", operatorName: "ios16.gather", preferred: "cpu", supported: ["cpu"],
                costPpb: 150_000_000),
            PlacedOperation(name: "x_2_axis", operatorName: "const", preferred: "unknown", supported: [], costPpb: -1),
        ]
    }

    private func refuse(_ stage: String) throws {
        if let error = refuses[stage] { throw error }
    }
}
