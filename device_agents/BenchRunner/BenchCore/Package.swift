// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "BenchCore",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [.library(name: "BenchCore", targets: ["BenchCore"])],
    targets: [
        .target(name: "BenchCore"),
        .executableTarget(name: "benchcore-simulated", dependencies: ["BenchCore"]),
        .testTarget(name: "BenchCoreTests", dependencies: ["BenchCore"]),
    ]
)
