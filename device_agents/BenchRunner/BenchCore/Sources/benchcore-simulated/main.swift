// One launch of the app's loop on the simulated engine: `benchcore-simulated MAILBOX`. It runs no network.
import BenchCore
import Foundation

guard CommandLine.arguments.count == 2 else {
    FileHandle.standardError.write(Data("usage: benchcore-simulated MAILBOX\n".utf8))
    exit(2)
}
try Agent(URL(fileURLWithPath: CommandLine.arguments[1], isDirectory: true), SimulatedEngine()).start()
