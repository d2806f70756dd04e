import BenchCore
import SwiftUI
import UIKit

/// Runs the ordered job at once, shows what it does, and ends: the host starts it again for the next round.
@main
struct BenchRunnerApp: App {
    @StateObject private var work = Work()

    var body: some Scene {
        WindowGroup {
            VStack(spacing: 16) {
                Text("BenchRunner").font(.title)
                Text(work.state)
                Text("Keep the phone unlocked and this app in front.").font(.footnote)
            }
            .padding()
            .task { work.start() }
        }
    }
}

@MainActor
final class Work: ObservableObject {
    @Published var state = "starting"
    private var started = false

    func start() {
        guard !started else { return }
        started = true
        UIApplication.shared.isIdleTimerDisabled = true
        UIDevice.current.isBatteryMonitoringEnabled = true
        state = "measuring"
        let thread = Thread {
            let code = Work.run()
            DispatchQueue.main.async { Work.end(code) }
        }
        thread.qualityOfService = .userInteractive
        thread.stackSize = 8 << 20
        thread.start()
    }

    /// What the disk refuses is told on the console; everything else stands in the journal.
    private nonisolated static func run() -> Int32 {
        let folder = FileManager.default.urls(for: .documentDirectory, in: .userDomainMask)[0]
        do {
            let job = try Agent(folder, CoreMLEngine()).start()
            print(job.map { "worked on job \($0)" } ?? "no job is ordered")
            return 0
        } catch {
            print("the disk refused: \(error)")
            return 74
        }
    }

    /// iOS frowns on apps that end themselves; this one is started by a program, one launch per round.
    private static func end(_ code: Int32) { exit(code) }
}
