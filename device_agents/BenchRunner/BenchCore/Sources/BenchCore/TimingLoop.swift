/// The timing rules of runners/timing.py, step for step: calibrate, warm up until steady, time, check.
struct TimingLoop {
    static let maxLoops: Int64 = 1 << 20
    static let maxSamples = 1 << 20
    static let calibrations = 3
    static let trials = 3
    static let headroom = 1.2
    static let maxStretch = 10.0

    let engine: any Engine
    let inputs: Int
    let timing: DeviceTiming

    struct WarmUp {
        let loopCount: Int
        let plan: [[Int]]
        let samplesNs: [Int64]
        let window: Int
        let steady: Bool

        var typicalNs: Double { TimingLoop.median(samplesNs.suffix(window).map(Double.init)) }
    }

    func warmUp() throws -> WarmUp {
        let limit = engine.clockNs() + timing.maxWarmupNs
        var warm: WarmUp
        var tries = 0
        repeat {
            let (loops, typical) = try calibrate()
            warm = try untilSteady(Self.rotation(inputs, loops), typical, limit)
            tries += 1
        } while warm.typicalNs < Double(timing.minSampleNs) && tries < Self.calibrations
        return warm
    }

    /// Raw samples in order, each the nanoseconds of `warm.loopCount` predictions.
    func take(_ warm: WarmUp) throws -> [Int64] {
        let round = max(1.0, Double(timing.roundNs))
        let typical = max(1.0, warm.typicalNs)
        let atLeast = min(Int(timing.minSamples), max(1, Int(Self.maxStretch * round / typical)))
        let room = min(Self.maxSamples, max(atLeast, Int(2 * round / typical) + 1))
        var samples = [Int64](repeating: -1, count: room)
        try engine.predict(0)
        let count = try record(&samples, 0, room, warm.plan, 0, spanNs: timing.roundNs, atLeast: atLeast)
        return try Self.checked(Array(samples[..<count]))
    }

    /// Fills `samples` from `start`; gives how many. Nothing is allocated inside the loop.
    private func record(
        _ samples: inout [Int64], _ start: Int, _ room: Int, _ plan: [[Int]], _ turn: Int, spanNs: Int64,
        atLeast: Int
    ) throws -> Int {
        let begin = engine.clockNs()
        var count = 0
        while count < room {
            let order = plan[(turn + count) % plan.count]
            let from = engine.clockNs()
            for index in order { try engine.predict(index) }
            let stop = engine.clockNs()
            samples[start + count] = stop - from
            count += 1
            if stop - begin >= spanNs && count >= atLeast { break }
        }
        return count
    }

    private func calibrate() throws -> (Int, Int64) {
        var loops: Int64 = 1
        let wanted = Int64((Double(timing.minSampleNs) * Self.headroom).rounded(.toNearestOrEven))
        while true {
            let elapsed = try shortest(Self.rotation(inputs, Int(loops)), enoughNs: 20 * wanted)
            if elapsed >= wanted { return (Int(loops), elapsed) }
            if loops >= Self.maxLoops {
                throw EngineError(
                    "clock_failed", "\(loops) inferences took \(elapsed) ns by this clock: it does not advance")
            }
            let needed = Int64((Double(loops * wanted) / Double(max(1, elapsed))).rounded(.up))
            loops = min(Self.maxLoops, max(loops + 1, min(10 * loops, needed)))
        }
    }

    private func shortest(_ plan: [[Int]], enoughNs: Int64) throws -> Int64 {
        var trial: [Int64] = [-1]
        var shortest = Int64(1) << 62
        for i in 0..<Self.trials {
            _ = try record(&trial, 0, 1, plan, i, spanNs: 0, atLeast: 1)
            shortest = min(shortest, try Self.notBackwards(trial)[0])
            if shortest >= enoughNs { break }
        }
        return shortest
    }

    private func untilSteady(_ plan: [[Int]], _ typical: Int64, _ limit: Int64) throws -> WarmUp {
        let span = Int64((Double(timing.warmupNs) / 2).rounded(.toNearestOrEven))
        let longest = Double(timing.maxWarmupNs)
        let room = Int(longest / 4 / Double(max(1, typical)))
        let atLeast = max(1, min(3, room))
        let size = min(Self.maxSamples, 2 * atLeast + Int(4 * longest / Double(max(1, typical))))
        var samples = [Int64](repeating: -1, count: size)
        var before = 0, start = 0, filled = 0
        var steady = false
        while !steady && filled + atLeast <= size {
            (before, start) = (start, filled)
            filled += try record(
                &samples, filled, size - filled, plan, filled, spanNs: span, atLeast: atLeast)
            steady = start > 0 && Self.agree(samples[before..<start], samples[start..<filled])
            if engine.clockNs() >= limit { break }
        }
        let taken = try Self.checked(Array(samples[..<filled]))
        return WarmUp(
            loopCount: plan[0].count, plan: plan, samplesNs: taken, window: filled - start, steady: steady)
    }

    /// Sample i runs the inputs `plan[i % plan.count]`, so that all take turns.
    static func rotation(_ inputs: Int, _ loops: Int) -> [[Int]] {
        let phases = inputs / divisor(inputs, loops)
        return (0..<phases).map { phase in (0..<loops).map { (phase * loops + $0) % inputs } }
    }

    /// Medians within 5 %, median absolute deviations within 10 % of the median.
    static func agree(_ earlier: ArraySlice<Int64>, _ later: ArraySlice<Int64>) -> Bool {
        let (centre, spread) = centreAndSpread(earlier)
        let (lastCentre, lastSpread) = centreAndSpread(later)
        return abs(lastCentre - centre) <= 0.05 * centre && abs(lastSpread - spread) <= 0.10 * centre
    }

    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        let half = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
    }

    private static func centreAndSpread(_ values: ArraySlice<Int64>) -> (Double, Double) {
        let centre = median(values.map(Double.init))
        return (centre, median(values.map { abs(Double($0) - centre) }))
    }

    private static func divisor(_ a: Int, _ b: Int) -> Int { b == 0 ? a : divisor(b, a % b) }

    private static func checked(_ samples: [Int64]) throws -> [Int64] {
        guard try notBackwards(samples).allSatisfy({ $0 > 0 }) else {
            throw EngineError("clock_failed", "a sample lasted 0 ns by this clock: it is too coarse or stood still")
        }
        return samples
    }

    private static func notBackwards(_ samples: [Int64]) throws -> [Int64] {
        if let least = samples.min(), least < 0 {
            throw EngineError("clock_failed", "a sample lasted \(least) ns: the clock went backwards")
        }
        return samples
    }
}
