import BenchCore
import Foundation
import UIKit

/// What the phone says of itself. No name, serial number or identifier is asked for.
enum DeviceFacts {
    static func facts() -> Facts {
        let version = ProcessInfo.processInfo.operatingSystemVersion
        let os = "iOS \(version.majorVersion).\(version.minorVersion).\(version.patchVersion)"
        return Facts(
            agent: "BenchRunner 1", deviceModel: systemText("hw.machine"), os: os,
            osBuild: systemText("kern.osversion"), runtime: "Core ML")
    }

    @MainActor static func conditions() -> Conditions {
        let device = UIDevice.current
        let level = device.batteryLevel
        return Conditions(
            thermalState: thermalState(),
            batteryPermille: level < 0 ? -1 : Int64((level * 1000).rounded()),
            charging: device.batteryState == .charging || device.batteryState == .full,
            lowPowerMode: ProcessInfo.processInfo.isLowPowerModeEnabled,
            memoryBytes: footprint(),
            availableMemoryBytes: Int64(os_proc_available_memory()))
    }

    private static func thermalState() -> String {
        switch ProcessInfo.processInfo.thermalState {
        case .nominal: return "nominal"
        case .fair: return "fair"
        case .serious: return "serious"
        case .critical: return "critical"
        @unknown default: return "unknown"
        }
    }

    private static func systemText(_ name: String) -> String {
        var size = 0
        guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return "unknown" }
        var bytes = [CChar](repeating: 0, count: size)
        guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return "unknown" }
        return String(cString: bytes)
    }

    /// The footprint that iOS judges an app by.
    private static func footprint() -> Int64 {
        var info = task_vm_info_data_t()
        var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size)
        let result = withUnsafeMutablePointer(to: &info) { pointer in
            pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
                task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
            }
        }
        return result == KERN_SUCCESS ? Int64(info.phys_footprint) : -1
    }
}
