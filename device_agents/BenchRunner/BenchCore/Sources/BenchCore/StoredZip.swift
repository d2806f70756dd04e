import Foundation

/// Reads the one kind of archive that the host sends: files stored without compression, in one plain form.
/// Everything else (compression, links, folders, names that lead out, repeated names) is refused.
public struct StoredZip {
    static let maxFiles = 1000

    private let bytes: [UInt8]
    private let files: [(name: String, range: Range<Int>)]

    /// Throws FormError.
    public init(_ bytes: [UInt8]) throws {
        self.bytes = bytes
        var place = 0
        var found: [(String, Range<Int>)] = []
        while try Self.number(bytes, place, 4) == 0x0403_4b50 {
            let method = try Self.number(bytes, place + 8, 2)
            let flags = try Self.number(bytes, place + 6, 2)
            let packed = try Self.number(bytes, place + 18, 4)
            let size = try Self.number(bytes, place + 22, 4)
            let nameBytes = try Self.number(bytes, place + 26, 2)
            let extra = try Self.number(bytes, place + 28, 2)
            guard method == 0, packed == size, extra == 0, flags & ~0x0800 == 0 else {
                throw FormError("archive: an entry that is not stored plainly")
            }
            let start = place + 30 + nameBytes
            guard start + size <= bytes.count, found.count < Self.maxFiles,
                let name = String(bytes: bytes[(place + 30)..<start], encoding: .utf8), Self.isSafe(name),
                !found.contains(where: { $0.0 == name })
            else { throw FormError("archive: an entry that is cut short, repeated, or named out of the folder") }
            found.append((name, start..<start + size))
            place = start + size
        }
        guard !found.isEmpty, try Self.number(bytes, place, 4) == 0x0201_4b50 else {
            throw FormError("archive: no file in it, or something else between its files")
        }
        files = found
    }

    public var names: [String] { files.map(\.name) }

    public func extract(to folder: URL) throws {
        for (name, range) in files {
            let target = folder.appendingPathComponent(name)
            try FileManager.default.createDirectory(
                at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(bytes[range]).write(to: target)
        }
    }

    static func isSafe(_ name: String) -> Bool {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        return (1...8).contains(parts.count) && name.utf8.count <= 255
            && parts.allSatisfy { part in
                !part.isEmpty && part != "." && part != ".."
                    && part.utf8.allSatisfy { $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "\\") && $0 != UInt8(ascii: ":") }
            }
    }

    private static func number(_ bytes: [UInt8], _ place: Int, _ count: Int) throws -> Int {
        guard place >= 0, place + count <= bytes.count else { throw FormError("archive: cut short") }
        return (0..<count).reduce(0) { $0 | Int(bytes[place + $1]) << (8 * $1) }
    }
}
