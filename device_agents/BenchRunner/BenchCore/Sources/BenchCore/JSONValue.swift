import Foundation

/// JSON with whole numbers only, and one text per value: the same bytes as `forms.canonical` in Python.
public enum JSONValue: Equatable, Sendable {
    case integer(Int64)
    case string(String)
    case bool(Bool)
    case array([JSONValue])
    case object([String: JSONValue])

    /// Sorted keys, no spaces, UTF-8, no escapes but those that JSON asks for.
    public func canonical() -> [UInt8] {
        var bytes: [UInt8] = []
        write(to: &bytes)
        return bytes
    }

    private func write(to bytes: inout [UInt8]) {
        switch self {
        case .integer(let value): bytes += String(value).utf8
        case .bool(let value): bytes += (value ? "true" : "false").utf8
        case .string(let value): JSONValue.write(value, to: &bytes)
        case .array(let items):
            bytes.append(UInt8(ascii: "["))
            for (index, item) in items.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                item.write(to: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let table):
            bytes.append(UInt8(ascii: "{"))
            let keys = table.keys.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
            for (index, key) in keys.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                JSONValue.write(key, to: &bytes)
                bytes.append(UInt8(ascii: ":"))
                table[key]!.write(to: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    private static func write(_ text: String, to bytes: inout [UInt8]) {
        let digits = Array("0123456789abcdef".utf8)
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): bytes += "\\\"".utf8
            case UInt8(ascii: "\\"): bytes += "\\\\".utf8
            case 0x08: bytes += "\\b".utf8
            case 0x09: bytes += "\\t".utf8
            case 0x0a: bytes += "\\n".utf8
            case 0x0c: bytes += "\\f".utf8
            case 0x0d: bytes += "\\r".utf8
            case 0..<0x20: bytes += "\\u00".utf8 + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    /// The value of untrusted bytes, which must be the canonical text of it. Throws FormError.
    public static func parse(_ bytes: [UInt8], _ what: String, maxBytes: Int) throws -> JSONValue {
        guard bytes.count <= maxBytes else {
            throw FormError("\(what): \(bytes.count) bytes, at most \(maxBytes)")
        }
        var parser = JSONParser(bytes: bytes, what: what)
        let value = try parser.whole()
        guard value.canonical() == bytes else {
            throw FormError("\(what): not the canonical text (sorted keys, no spaces)")
        }
        return value
    }
}

/// A value has not the form that it must have; the message says where and what.
public struct FormError: Error, Equatable, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }
}

private struct JSONParser {
    static let maxDepth = 16
    let bytes: [UInt8]
    let what: String
    var place = 0
    var depth = 0

    init(bytes: [UInt8], what: String) {
        self.bytes = bytes
        self.what = what
    }

    mutating func whole() throws -> JSONValue {
        let value = try self.value()
        guard place == bytes.count else { throw wrong("something stands behind the end") }
        return value
    }

    private mutating func value() throws -> JSONValue {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.maxDepth else { throw wrong("nested too deep") }
        switch try peek() {
        case UInt8(ascii: "{"): return .object(try table())
        case UInt8(ascii: "["): return .array(try list())
        case UInt8(ascii: "\""): return .string(try text())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        default: return .integer(try integer())
        }
    }

    private mutating func table() throws -> [String: JSONValue] {
        var found: [String: JSONValue] = [:]
        try expect("{")
        if try peek() == UInt8(ascii: "}") {
            place += 1
            return found
        }
        repeat {
            let key = try text()
            try expect(":")
            guard found.updateValue(try value(), forKey: key) == nil else {
                throw wrong("the key \(key) stands there twice")
            }
        } while try comma(orEnd: "}")
        return found
    }

    private mutating func list() throws -> [JSONValue] {
        var found: [JSONValue] = []
        try expect("[")
        if try peek() == UInt8(ascii: "]") {
            place += 1
            return found
        }
        repeat { found.append(try value()) } while try comma(orEnd: "]")
        return found
    }

    private mutating func text() throws -> String {
        try expect("\"")
        var content: [UInt8] = []
        while true {
            let byte = try next()
            if byte == UInt8(ascii: "\"") { break }
            content.append(byte == UInt8(ascii: "\\") ? try escaped() : byte)
        }
        guard let text = String(bytes: content, encoding: .utf8) else { throw wrong("a text is no UTF-8") }
        return text
    }

    /// Only what the canonical text escapes: quotes, backslashes and control characters.
    private mutating func escaped() throws -> UInt8 {
        let byte = try next()
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): return byte
        case UInt8(ascii: "b"): return 0x08
        case UInt8(ascii: "t"): return 0x09
        case UInt8(ascii: "n"): return 0x0a
        case UInt8(ascii: "f"): return 0x0c
        case UInt8(ascii: "r"): return 0x0d
        case UInt8(ascii: "u"):
            let digits = [try next(), try next(), try next(), try next()]
            guard let text = String(bytes: digits, encoding: .utf8), let code = UInt8(text, radix: 16),
                code > 0, code < 0x20
            else { throw wrong("an escape that the canonical text has not") }
            return code
        default: throw wrong("an escape that JSON has not")
        }
    }

    private mutating func integer() throws -> Int64 {
        let start = place
        while place < bytes.count, bytes[place] == UInt8(ascii: "-") || (48...57).contains(bytes[place]) {
            place += 1
        }
        guard let text = String(bytes: bytes[start..<place], encoding: .utf8), let value = Int64(text) else {
            throw wrong("no whole number")
        }
        return value
    }

    private mutating func word(_ text: String, _ value: JSONValue) throws -> JSONValue {
        for byte in text.utf8 where try next() != byte { throw wrong("no JSON") }
        return value
    }

    private mutating func comma(orEnd end: Unicode.Scalar) throws -> Bool {
        let byte = try next()
        if byte == UInt8(ascii: ",") { return true }
        guard byte == UInt8(ascii: end) else { throw wrong("no JSON") }
        return false
    }

    private mutating func expect(_ scalar: Unicode.Scalar) throws {
        guard try next() == UInt8(ascii: scalar) else { throw wrong("no JSON") }
    }

    private func peek() throws -> UInt8 {
        guard place < bytes.count else { throw wrong("cut short") }
        return bytes[place]
    }

    private mutating func next() throws -> UInt8 {
        let byte = try peek()
        place += 1
        return byte
    }

    private func wrong(_ why: String) -> FormError {
        FormError("\(what): no JSON of this program (\(why), byte \(place))")
    }
}
