using System.Globalization;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Benchmarks;

/// <summary>What the published agent costs on a host with 256 functions while nothing happens.</summary>
internal static class IdleAgent
{
    private const string Node = "node-1";

    public static async Task<int> RunAsync(string file, TimeSpan span)
    {
        await using AgentLab lab = await AgentLab.StartAsync();
        await using ShippedProgram agent = await lab.StartAgentAsync(file, Node, LabHosts.CreateWith256Vfs());
        int devices = await lab.SettledAsync(agent, Node);
        lab.Requests.Clear();
        ProcessUsage before = agent.Usage();
        await Task.Delay(span);
        ProcessUsage after = agent.Usage();
        Console.WriteLine($"{devices} devices in status; {span.TotalSeconds:0} s in which nothing happened:");
        IReadOnlyList<ThreadUsage> threads = after.Since(before);
        double cpu = threads.Sum(t => t.Nanoseconds) / 1e6;
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"CPU        {cpu:0.0} ms by the scheduler ({cpu / span.TotalMilliseconds:0.000 %} of a processor); {(after.Ticks - before.Ticks) * 10} ms, user and system, in steps of 10 ms"
            )
        );
        foreach (ThreadUsage? thread in threads.Where(t => t.Waits > 0))
        {
            Console.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"             {thread.Nanoseconds / 1e6:0.0} ms, {thread.Waits} wake-ups: {thread.Name}"
                )
            );
        }

        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"memory     {after.Resident / 1024.0:0.0} MiB resident, {after.Anonymous / 1024.0:0.0} MiB of it its own (anonymous), {after.Threads.Count} threads"
            )
        );
        Console.WriteLine(
            $"requests   {lab.Requests.Values.Sum()} to the API server{string.Concat(lab.Requests.OrderBy(r => r.Key, StringComparer.Ordinal).Select(r => $"\n             {r.Value} x {r.Key}"))}"
        );
        int writes = lab.Requests.Where(r => !r.Key.StartsWith("GET ", StringComparison.Ordinal)).Sum(r => r.Value);
        Console.WriteLine($"writes     {writes}");
        return writes == 0 ? 0 : 1;
    }
}
