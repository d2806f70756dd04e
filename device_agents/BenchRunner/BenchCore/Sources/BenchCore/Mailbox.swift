import Foundation

/// The folder that host and app share; every file of a job begins with the job's id (device_agents/mailbox.py).
public struct Mailbox: Sendable {
    public static let ordersName = "orders.json"

    public let folder: URL

    public init(_ folder: URL) { self.folder = folder }

    public func place(_ jobID: String, _ name: String) -> URL {
        folder.appendingPathComponent("\(jobID).\(name)")
    }

    /// nil where there is no such file.
    public func read(_ url: URL) throws -> [UInt8]? {
        FileManager.default.fileExists(atPath: url.path) ? [UInt8](try Data(contentsOf: url)) : nil
    }

    /// Every file and folder of a job.
    public func forget(_ jobID: String) throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path)
        where name.hasPrefix("\(jobID).") {
            try FileManager.default.removeItem(at: folder.appendingPathComponent(name))
        }
    }
}

/// What to run and what to forget.
public struct Orders: Equatable, Sendable {
    public let run: String
    public let forget: [String]

    public static func parse(_ bytes: [UInt8]) throws -> Orders {
        let value = try JSONValue.parse(bytes, "orders", maxBytes: 1 << 16)
        return try Form.whole(value, "orders") { form in
            _ = try form.oneOf("format", ["deploybench device orders"])
            _ = try form.integer("schema", DeviceJob.schema, DeviceJob.schema)
            let orders = Orders(
                run: try form.text("run", most: 16),
                forget: try form.texts("forget", most: 1000, length: 16)
            )
            for id in orders.forget + (orders.run.isEmpty ? [] : [orders.run]) {
                guard Names.isHex(id, 16) else { throw FormError("orders: \(id) is no job id") }
            }
            return orders
        }
    }
}
