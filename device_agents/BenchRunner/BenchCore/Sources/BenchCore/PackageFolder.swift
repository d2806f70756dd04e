import Foundation

extension StoredZip {
    /// The package as a folder again. An archive holds files alone, and Core ML refuses a package without a folder
    /// that its manifest names: a model without weights has an empty one, which is made here. Throws FormError.
    public func extractPackage(to folder: URL) throws {
        guard names.contains("Manifest.json") else { throw FormError("package: it has no Manifest.json") }
        try extract(to: folder)
        let manifest = try Data(contentsOf: folder.appendingPathComponent("Manifest.json"))
        for name in try Self.namedBesideTheModel(manifest) {
            let place = folder.appendingPathComponent(name)
            guard !FileManager.default.fileExists(atPath: place.path) else { continue }
            try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        }
    }

    /// What a manifest names but the specification itself, by the names inside the package.
    static func namedBesideTheModel(_ manifest: Data) throws -> [String] {
        guard let value = try? JSONSerialization.jsonObject(with: manifest) as? [String: Any],
            let items = value["itemInfoEntries"] as? [String: Any], let root = value["rootModelIdentifier"] as? String
        else { throw FormError("package: Manifest.json cannot be read") }
        return try items.filter { $0.key != root }.map { _, item in
            guard let path = (item as? [String: Any])?["path"] as? String, isSafe("Data/\(path)") else {
                throw FormError("package: Manifest.json names something that is no plain relative name")
            }
            return "Data/\(path)"
        }
    }
}
