import BenchCore
import CoreML
import Foundation

/// Core ML behind BenchCore's loop. It keeps no time, computes no statistic and writes no record.
final class CoreMLEngine: Engine {
    private var package: URL?
    private var target: URL?
    private var loaded: URL?
    private var model: MLModel?
    private var job: DeviceJob?
    private var providers: [MLFeatureProvider] = []
    private var options = MLPredictionOptions()
    private var outputNames: [String] = []
    private var tensors: [Tensor] = []

    func clockNs() -> Int64 { Int64(clock_gettime_nsec_np(CLOCK_UPTIME_RAW)) }
    func utcNs() -> Int64 { Int64(Date().timeIntervalSince1970 * 1e9) }
    func facts() -> Facts { DeviceFacts.facts() }
    func conditions() -> Conditions { onMain { DeviceFacts.conditions() } }

    func prepare(_ job: DeviceJob, model: URL, compiled: URL) throws {
        guard job.model.format == "mlpackage-zip" else {
            throw EngineError("compile_failed", "Core ML reads an mlpackage, not \(job.model.format)")
        }
        try requireSystem(job.model.minimumOS)
        let package = compiled.deletingPathExtension().appendingPathExtension("package.mlpackage")
        for folder in [package, compiled] where FileManager.default.fileExists(atPath: folder.path) {
            try FileManager.default.removeItem(at: folder)
        }
        do {
            try StoredZip([UInt8](try Data(contentsOf: model))).extractPackage(to: package)
        } catch let error as FormError {
            throw EngineError("bad_model", error.description)
        }
        self.package = package
        target = compiled
    }

    func compile() throws {
        guard let package, let target else { throw EngineError("compile_failed", "nothing was prepared") }
        do {
            let made = try MLModel.compileModel(at: package)
            try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
            try FileManager.default.moveItem(at: made, to: Self.modelc(target))
        } catch {
            throw EngineError("compile_failed", "\(error)")
        }
    }

    func isCompiled(_ compiled: URL) -> Bool {
        FileManager.default.fileExists(atPath: Self.modelc(compiled).path)
    }

    func load(_ job: DeviceJob, compiled: URL) throws {
        do {
            model = try MLModel(contentsOf: Self.modelc(compiled), configuration: Self.configuration(job))
        } catch {
            throw EngineError("load_failed", "\(error)")
        }
        self.job = job
        loaded = compiled
        try makeOutputs()
    }

    func unload() {
        model = nil
        providers = []
        options = MLPredictionOptions()
    }

    func setInputs(_ sets: [[[UInt8]]]) throws {
        guard let job else { throw EngineError("predict_failed", "no model is loaded") }
        do {
            providers = try sets.map { parts in
                var features: [String: Any] = [:]
                for (tensor, bytes) in zip(job.inputs.tensors, parts) {
                    features[tensor.name] = try Self.array(tensor, bytes)
                }
                return try MLDictionaryFeatureProvider(dictionary: features)
            }
        } catch {
            throw EngineError("predict_failed", "\(error)")
        }
    }

    func predict(_ index: Int) throws {
        do {
            _ = try model!.prediction(from: providers[index], options: options)
        } catch {
            throw EngineError("predict_failed", "\(error)")
        }
    }

    /// By the prediction that is timed, into the same arrays.
    func outputs(_ index: Int) throws -> [[UInt8]] {
        guard let model else { throw EngineError("predict_failed", "no model is loaded") }
        do {
            let found = try model.prediction(from: providers[index], options: options)
            let arrays = outputNames.compactMap { found.featureValue(for: $0)?.multiArrayValue }
            guard arrays.count == outputNames.count else {
                throw EngineError("predict_failed", "an output is no array")
            }
            tensors = try zip(outputNames, arrays).map { name, array in
                Tensor(name: name, dtype: try Self.dtype(array.dataType), shape: array.shape.map(\.intValue))
            }
            return arrays.map(Self.contiguous)
        } catch let error as EngineError {
            throw error
        } catch {
            throw EngineError("predict_failed", "\(error)")
        }
    }

    func outputTensors() -> [Tensor] { tensors }

    /// The compute plan, on iOS 17.4 or newer; older systems tell none.
    func placement() throws -> [PlacedOperation] {
        guard #available(iOS 17.4, *), let job, let loaded else { return [] }
        let plan = try waitFor {
            try await MLComputePlan.load(contentsOf: Self.modelc(loaded), configuration: Self.configuration(job))
        }
        guard case .program(let program) = plan.modelStructure else { return [] }
        return program.functions.sorted { $0.key < $1.key }.flatMap { _, function in
            function.block.operations.map { Self.placed($0, plan) }
        }
    }

    @available(iOS 17.4, *)
    private static func placed(_ operation: MLModelStructure.Program.Operation, _ plan: MLComputePlan) -> PlacedOperation {
        let usage = plan.deviceUsage(for: operation)
        let cost = plan.estimatedCost(of: operation)?.weight
        var supported: [String] = []
        for device in usage?.supported ?? [] where !supported.contains(place(device)) { supported.append(place(device)) }
        return PlacedOperation(
            name: operation.outputs.first?.name ?? "",
            operatorName: operation.operatorName,
            preferred: usage.map { place($0.preferred) } ?? "unknown",
            supported: supported.filter { $0 != "unknown" },
            costPpb: cost.map { Int64(($0 * 1e9).rounded()) } ?? -1)
    }

    @available(iOS 17.0, *)
    private static func place(_ device: MLComputeDevice) -> String {
        switch device {
        case .cpu: return "cpu"
        case .gpu: return "gpu"
        case .neuralEngine: return "neural_engine"
        @unknown default: return "unknown"
        }
    }

    /// Buffers for outputs of a fixed shape, so that a timed prediction makes none.
    private func makeOutputs() throws {
        guard let description = model?.modelDescription else { return }
        outputNames = description.outputDescriptionsByName.keys.sorted()
        var backings: [String: Any] = [:]
        for name in outputNames {
            guard let wanted = description.outputDescriptionsByName[name]?.multiArrayConstraint,
                !wanted.shape.isEmpty, wanted.shape.allSatisfy({ $0.intValue > 0 })
            else { continue }
            backings[name] = try? MLMultiArray(shape: wanted.shape, dataType: wanted.dataType)
        }
        options = MLPredictionOptions()
        options.outputBackings = backings
    }

    private func requireSystem(_ minimum: String) throws {
        guard !minimum.isEmpty else { return }
        let parts = minimum.split(separator: ".").compactMap { Int($0) } + [0, 0]
        let wanted = OperatingSystemVersion(majorVersion: parts[0], minorVersion: parts[1], patchVersion: parts[2])
        guard ProcessInfo.processInfo.isOperatingSystemAtLeast(wanted) else {
            throw EngineError("specification_too_new", "the model needs iOS \(minimum) or newer")
        }
    }

    private static func modelc(_ compiled: URL) -> URL { compiled.appendingPathComponent("model.mlmodelc") }

    private static func configuration(_ job: DeviceJob) -> MLModelConfiguration {
        let configuration = MLModelConfiguration()
        switch job.computeUnit {
        case "cpuOnly": configuration.computeUnits = .cpuOnly
        case "cpuAndGPU": configuration.computeUnits = .cpuAndGPU
        case "cpuAndNeuralEngine": configuration.computeUnits = .cpuAndNeuralEngine
        default: configuration.computeUnits = .all
        }
        return configuration
    }

    private static func array(_ tensor: Tensor, _ bytes: [UInt8]) throws -> MLMultiArray {
        let kinds: [String: MLMultiArrayDataType] = ["float16": .float16, "float32": .float32, "int32": .int32]
        let array = try MLMultiArray(shape: tensor.shape.map { NSNumber(value: $0) }, dataType: kinds[tensor.dtype]!)
        array.withUnsafeMutableBytes { target, _ in
            target.copyBytes(from: bytes.prefix(target.count))
        }
        return array
    }

    private static func dtype(_ type: MLMultiArrayDataType) throws -> String {
        switch type {
        case .float16: return "float16"
        case .float32: return "float32"
        case .int32: return "int32"
        default: throw EngineError("predict_failed", "an output of a type that jobs do not know")
        }
    }

    /// The elements in order of their indices, whatever strides the array has.
    private static func contiguous(_ array: MLMultiArray) -> [UInt8] {
        let size = array.dataType == .float16 ? 2 : 4
        let shape = array.shape.map(\.intValue), strides = array.strides.map(\.intValue)
        return array.withUnsafeBytes { source in
            var bytes: [UInt8] = []
            bytes.reserveCapacity(array.count * size)
            var index = [Int](repeating: 0, count: shape.count)
            for _ in 0..<array.count {
                let place = zip(index, strides).reduce(0) { $0 + $1.0 * $1.1 } * size
                bytes.append(contentsOf: source[place..<place + size])
                for axis in shape.indices.reversed() {
                    index[axis] += 1
                    if index[axis] < shape[axis] { break }
                    index[axis] = 0
                }
            }
            return bytes
        }
    }
}

/// UIKit answers on the main thread alone.
private func onMain<T: Sendable>(_ work: @MainActor () -> T) -> T {
    if Thread.isMainThread { return MainActor.assumeIsolated(work) }
    return DispatchQueue.main.sync { MainActor.assumeIsolated(work) }
}

/// A result box: written once before the semaphore is signalled, read once after it.
private final class Box<T>: @unchecked Sendable {
    var result: Result<T, Error>?
}

private func waitFor<T>(_ work: @escaping @Sendable () async throws -> T) throws -> T {
    let box = Box<T>()
    let done = DispatchSemaphore(value: 0)
    Task.detached {
        do {
            box.result = .success(try await work())
        } catch {
            box.result = .failure(EngineError("load_failed", "\(error)"))
        }
        done.signal()
    }
    done.wait()
    return try box.result!.get()
}
