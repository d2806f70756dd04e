import Foundation

/// What the runtime refused; `problem` is a name of device_agents/problems.py.
public struct EngineError: Error, Equatable {
    public let problem: String
    public let message: String

    public init(_ problem: String, _ message: String) {
        self.problem = problem
        self.message = message
    }
}

public struct Facts: Equatable, Sendable {
    public let agent, deviceModel, os, osBuild, runtime: String

    public init(agent: String, deviceModel: String, os: String, osBuild: String, runtime: String) {
        self.agent = agent
        self.deviceModel = deviceModel
        self.os = os
        self.osBuild = osBuild
        self.runtime = runtime
    }

    var json: JSONValue {
        .object([
            "agent": .string(agent), "device_model": .string(deviceModel), "os": .string(os),
            "os_build": .string(osBuild), "runtime": .string(runtime),
        ])
    }
}

/// Readings before and after a round; -1 is not known.
public struct Conditions: Equatable, Sendable {
    public var thermalState: String
    public var batteryPermille: Int64
    public var charging: Bool
    public var lowPowerMode: Bool
    public var memoryBytes: Int64
    public var availableMemoryBytes: Int64

    public init(
        thermalState: String, batteryPermille: Int64, charging: Bool, lowPowerMode: Bool, memoryBytes: Int64,
        availableMemoryBytes: Int64
    ) {
        self.thermalState = thermalState
        self.batteryPermille = batteryPermille
        self.charging = charging
        self.lowPowerMode = lowPowerMode
        self.memoryBytes = memoryBytes
        self.availableMemoryBytes = availableMemoryBytes
    }

    var json: JSONValue {
        .object([
            "thermal_state": .string(thermalState), "battery_permille": .integer(batteryPermille),
            "charging": .bool(charging), "low_power_mode": .bool(lowPowerMode),
            "memory_bytes": .integer(memoryBytes), "available_memory_bytes": .integer(availableMemoryBytes),
        ])
    }
}

/// One operation of the compute plan; `costPpb` is an estimated share, never a time, -1 where there is none.
public struct PlacedOperation: Equatable, Sendable {
    public let name, operatorName, preferred: String
    public let supported: [String]
    public let costPpb: Int64

    public init(name: String, operatorName: String, preferred: String, supported: [String], costPpb: Int64) {
        self.name = name
        self.operatorName = operatorName
        self.preferred = preferred
        self.supported = supported
        self.costPpb = costPpb
    }

    var json: JSONValue {
        .object([
            "name": .string(name), "operator": .string(operatorName), "preferred": .string(preferred),
            "supported": .array(supported.map { .string($0) }), "cost_ppb": .integer(costPpb),
        ])
    }
}

/// What the loop asks of whatever runs a network, in the order of the calls. It keeps no time itself.
public protocol Engine: AnyObject {
    func clockNs() -> Int64
    func utcNs() -> Int64
    func facts() -> Facts
    func conditions() -> Conditions
    /// Untimed: whatever must lie on the disk before `model` can be compiled to the folder `compiled`.
    func prepare(_ job: DeviceJob, model: URL, compiled: URL) throws
    func compile() throws
    func isCompiled(_ compiled: URL) -> Bool
    /// Ready to predict, with every input and output buffer made.
    func load(_ job: DeviceJob, compiled: URL) throws
    func unload()
    func setInputs(_ sets: [[[UInt8]]]) throws
    /// One prediction on set `index`: exactly what is timed.
    func predict(_ index: Int) throws
    func outputs(_ index: Int) throws -> [[UInt8]]
    func outputTensors() throws -> [Tensor]
    func placement() throws -> [PlacedOperation]
}
