import Foundation

/// One line of the journal; see device_agents/journal.py for what each key means.
public struct Entry: Equatable, Sendable {
    public static let kinds = [
        "received", "begin", "interrupted", "compiled", "loaded", "placement", "outputs", "round", "closed",
        "finished", "failed",
    ]
    static let maxLineBytes = 32 << 20

    public let kind: String
    public let body: JSONValue
    public let job: String
    public let launch: Int64
    public let sequence: Int64
    public let timeNs: Int64
    public let previous: String

    public var isEnd: Bool { kind == "finished" || kind == "failed" }

    public func line() -> [UInt8] {
        JSONValue.object([
            "body": body, "job": .string(job), "kind": .string(kind), "launch": .integer(launch),
            "previous": .string(previous), "schema": .integer(DeviceJob.schema), "sequence": .integer(sequence),
            "time_ns": .integer(timeNs),
        ]).canonical() + [0x0a]
    }

    /// A field of the body that is a number or a text; nil where there is none of that name.
    public subscript(name: String) -> JSONValue? {
        guard case .object(let table) = body else { return nil }
        return table[name]
    }

    static func parse(_ line: [UInt8], _ number: Int) throws -> Entry {
        let what = "journal line \(number)"
        let value = try JSONValue.parse(line, what, maxBytes: maxLineBytes)
        return try Form.whole(value, what) { form in
            _ = try form.integer("schema", DeviceJob.schema, DeviceJob.schema)
            return Entry(
                kind: try form.oneOf("kind", kinds),
                body: try form.table("body"),
                job: try form.text("job") { Names.isHex($0, 16) },
                launch: try form.integer("launch"),
                sequence: try form.integer("sequence"),
                timeNs: try form.integer("time_ns"),
                previous: try form.text("previous") { Names.isHex($0, 64) }
            )
        }
    }
}

/// Appends bytes to a file; when it returns, the disk holds them.
public typealias Append = (URL, [UInt8]) throws -> Void

public func appendDurably(_ url: URL, _ bytes: [UInt8]) throws {
    if !FileManager.default.fileExists(atPath: url.path) {
        try Data().write(to: url)
    }
    let file = try FileHandle(forWritingTo: url)
    defer { try? file.close() }
    try file.seekToEnd()
    try file.write(contentsOf: Data(bytes))
    try file.synchronize()
}

/// The app's journal: whole lines that each name the one before; what a kill left half written is removed.
public final class JournalFile {
    static let maxBytes = 256 << 20
    static let maxRecords = 20000

    public let url: URL
    public let jobID: String
    public private(set) var entries: [Entry] = []
    public let launch: Int64
    private var lastDigest = SHA256.hex([])
    private let append: Append

    /// Throws FormError for a journal that this app cannot have written.
    public init(_ url: URL, jobID: String, append: @escaping Append = appendDurably) throws {
        self.url = url
        self.jobID = jobID
        self.append = append
        let data = FileManager.default.fileExists(atPath: url.path) ? [UInt8](try Data(contentsOf: url)) : []
        guard data.count <= Self.maxBytes else { throw FormError("journal: \(data.count) bytes") }
        var start = 0
        var found: [Entry] = []
        while let end = data[start...].firstIndex(of: 0x0a) {
            let entry = try Entry.parse(Array(data[start..<end]), found.count)
            try Self.check(entry, after: found, lastDigest, jobID)
            found.append(entry)
            lastDigest = SHA256.hex(data[start...end])
            start = end + 1
            guard found.count <= Self.maxRecords else { throw FormError("journal: too many lines") }
        }
        if start < data.count {
            let file = try FileHandle(forWritingTo: url)
            try file.truncate(atOffset: UInt64(start))
            try file.close()
        }
        launch = found.last.map { $0.launch + 1 } ?? 0
        entries = found
    }

    public var isEnded: Bool { entries.last?.isEnd ?? false }

    public func all(_ kind: String) -> [Entry] { entries.filter { $0.kind == kind } }

    public func write(_ kind: String, _ body: JSONValue, timeNs: Int64) throws {
        let entry = Entry(
            kind: kind, body: body, job: jobID, launch: launch, sequence: Int64(entries.count), timeNs: timeNs,
            previous: lastDigest
        )
        let line = entry.line()
        try append(url, line)
        entries.append(entry)
        lastDigest = SHA256.hex(line)
    }

    private static func check(_ entry: Entry, after: [Entry], _ digest: String, _ jobID: String) throws {
        let what = "journal line \(after.count)"
        let launch = after.last?.launch ?? 0
        guard entry.job == jobID else { throw FormError("\(what): belongs to job \(entry.job)") }
        guard entry.sequence == after.count, entry.previous == digest else {
            throw FormError("\(what): does not follow the line before: one was lost, doubled or changed")
        }
        guard entry.launch == launch || entry.launch == launch + 1 else {
            throw FormError("\(what): launch \(entry.launch) does not follow launch \(launch)")
        }
        guard after.last?.isEnd != true else { throw FormError("\(what): stands behind the end") }
    }
}
