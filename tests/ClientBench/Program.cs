using System.Diagnostics;
using PciOperator.ClientBench;

// MODE URL COUNT, for the measurement in tests/Benchmarks/ClientComparison.cs. What it prints: seconds, bytes allocated, CPU seconds.
(string? mode, string? url, int count) = (args[0], args[1], int.Parse(args[2]));
using IBenchClient client = BenchClient.To(url);
if (mode == "start")
{
    await client.GetAsync("node-0");
    return;
}

// What happens once only is not measured.
await client.GetAsync("node-0");
if (mode == "patch")
    await client.PatchStatusAsync("node-0");

var process = Process.GetCurrentProcess();
(long allocated, TimeSpan cpu, long started) = (
    GC.GetTotalAllocatedBytes(precise: true),
    process.TotalProcessorTime,
    Stopwatch.GetTimestamp()
);
switch (mode)
{
    case "idle":
        await client.WatchAsync(count);
        break;
    case "watch":
        await client.WatchAsync(count);
        break;
    case "list":
        int items = await client.ListAsync(count);
        if (items != count)
            throw new InvalidOperationException($"{items} came of {count}.");
        break;
    case "patch":
        await Parallel.ForEachAsync(
            Enumerable.Range(0, count),
            new ParallelOptions { MaxDegreeOfParallelism = 16 },
            async (i, _) => await client.PatchStatusAsync($"node-{i % 100}")
        );
        break;
    default:
        throw new ArgumentException($"No mode {mode}.");
}

process.Refresh();
Console.WriteLine(
    FormattableString.Invariant(
        $"{Stopwatch.GetElapsedTime(started).TotalSeconds} {GC.GetTotalAllocatedBytes(precise: true) - allocated} {(process.TotalProcessorTime - cpu).TotalSeconds}"
    )
);

/// <summary>What each client does here.</summary>
internal interface IBenchClient : IDisposable
{
    Task GetAsync(string name);

    /// <summary>Reads all in pages of 500; how many came.</summary>
    Task<int> ListAsync(int count);

    /// <summary>Reads so many events of a watch.</summary>
    Task WatchAsync(int events);

    Task PatchStatusAsync(string name);
}
