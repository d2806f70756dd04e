/// A JSON object whose every key must be asked for: `done` refuses what is left.
public final class Form {
    private let table: [String: JSONValue]
    private let what: String
    private var seen: Set<String> = []

    public static func whole<T>(_ value: JSONValue, _ what: String, _ make: (Form) throws -> T) throws -> T {
        guard case .object(let table) = value else { throw FormError("\(what): no table") }
        let form = Form(table, what)
        let made = try make(form)
        if let unknown = Set(table.keys).subtracting(form.seen).min() {
            throw FormError("\(what): unknown key \(unknown.prefix(60))")
        }
        return made
    }

    private init(_ table: [String: JSONValue], _ what: String) {
        self.table = table
        self.what = what
    }

    public func integer(_ name: String, _ least: Int64 = 0, _ most: Int64 = .max) throws -> Int64 {
        guard case .integer(let value) = try get(name), value >= least, value <= most else {
            throw wrong(name, "a whole number from \(least) to \(most)")
        }
        return value
    }

    public func boolean(_ name: String) throws -> Bool {
        guard case .bool(let value) = try get(name) else { throw wrong(name, "true or false") }
        return value
    }

    public func text(_ name: String, most: Int = 4096, where holds: (String) -> Bool = { _ in true }) throws -> String {
        guard case .string(let value) = try get(name), value.unicodeScalars.count <= most, holds(value) else {
            throw wrong(name, "such a text of at most \(most) characters")
        }
        return value
    }

    public func oneOf(_ name: String, _ known: [String]) throws -> String {
        try text(name) { known.contains($0) }
    }

    public func table(_ name: String) throws -> JSONValue {
        let value = try get(name)
        guard case .object = value else { throw wrong(name, "a table") }
        return value
    }

    public func integers(_ name: String, most: Int, least: Int64, highest: Int64) throws -> [Int64] {
        try list(name, most).map { item in
            guard case .integer(let value) = item, value >= least, value <= highest else {
                throw wrong(name, "a list of whole numbers from \(least) to \(highest)")
            }
            return value
        }
    }

    public func texts(_ name: String, most: Int, length: Int) throws -> [String] {
        try list(name, most).map { item in
            guard case .string(let value) = item, value.unicodeScalars.count <= length else {
                throw wrong(name, "a list of texts")
            }
            return value
        }
    }

    public func form<T>(_ name: String, _ make: (Form) throws -> T) throws -> T {
        try Form.whole(get(name), "\(what).\(name)", make)
    }

    public func forms<T>(_ name: String, most: Int, _ make: (Form) throws -> T) throws -> [T] {
        try list(name, most).enumerated().map { try Form.whole($1, "\(what).\(name)[\($0)]", make) }
    }

    private func get(_ name: String) throws -> JSONValue {
        seen.insert(name)
        guard let value = table[name] else { throw FormError("\(what): '\(name)' is missing") }
        return value
    }

    private func list(_ name: String, _ most: Int) throws -> [JSONValue] {
        guard case .array(let items) = try get(name), items.count <= most else {
            throw wrong(name, "a list of at most \(most)")
        }
        return items
    }

    private func wrong(_ name: String, _ wanted: String) -> FormError {
        FormError("\(what).\(name) is not \(wanted)")
    }
}

/// Texts that name things on a disk: nothing in them leads out of a folder.
public enum Names {
    public static func isHex(_ text: String, _ count: Int) -> Bool {
        text.utf8.count == count && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    }

    /// `[A-Za-z0-9][A-Za-z0-9_-]{0,60}` and up to two extensions of 1 to 12 letters or digits.
    public static func isFileName(_ text: String) -> Bool {
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard (1...3).contains(parts.count), (1...61).contains(parts[0].count), isWord(parts[0].first!) else {
            return false
        }
        let stem = parts[0].allSatisfy { isWord($0) || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-") }
        return stem && parts.dropFirst().allSatisfy { (1...12).contains($0.count) && $0.allSatisfy(isWord) }
    }

    /// Empty, or `16.0`, `17.4.1`.
    public static func isVersion(_ text: String) -> Bool {
        if text.isEmpty { return true }
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return (1...3).contains(parts.count)
            && parts.allSatisfy { (1...3).contains($0.count) && $0.allSatisfy { (48...57).contains($0) } }
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
    }
}
