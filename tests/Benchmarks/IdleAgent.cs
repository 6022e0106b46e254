using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using k8s.Models;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;
using PciOperator.Sandbox.Hosts;
using PciOperator.Sandbox.Validation;

namespace PciOperator.Benchmarks;

/// <summary>
/// What the published agent costs while nothing happens: a process of its own on the files of a host with 256 functions,
/// against the sandbox's API server, which counts its requests. CPU time and memory are the kernel's own counts
/// of that process alone (proc_pid_stat(5): utime and stime, which getrusage(2) gives too, in ticks; and the scheduler's
/// nanoseconds of each thread, /proc/PID/task/TID/schedstat).
/// </summary>
internal static class IdleAgent
{
    private const string Node = "node-1";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    public static async Task<int> RunAsync(string agent, TimeSpan span)
    {
        var requests = new ConcurrentDictionary<string, int>(StringComparer.Ordinal);
        await using var server = await SandboxApiServer.StartAsync(new SandboxApiServerOptions
        {
            Crds = SandboxCrds.All,
            Validators = OwnResourceRules.Validators,
            OnRequest = (method, path) => requests.AddOrUpdate($"{method} {path}", 1, (_, n) => n + 1),
        });
        using var client = new EntityClient(ClusterAccess.FromKubeconfigText(server.KubeconfigText), PciOperatorJsonContext.Default);
        await client.CreateAsync(new PciNode
        {
            Metadata = new V1ObjectMeta { Name = Node },
            Spec = new PciNodeSpec { Rules = [new PciNodeRule { Name = "all", Devices = [new DeviceSelectorSpec()] }] },
        });
        var folder = Directory.CreateTempSubdirectory("pcioperator-idle-");
        try
        {
            LabHosts.CreateWith256Vfs().CopyTo(folder.FullName);
            var kubeconfig = Path.Combine(folder.FullName, "kubeconfig");
            await File.WriteAllTextAsync(kubeconfig, server.KubeconfigText);
            var start = new ProcessStartInfo(agent, ["--node-name", Node, "--kubeconfig", kubeconfig, "--host-root", folder.FullName, "--health-address", "127.0.0.1:0", "--log-level", "warning"]);
            using var process = Process.Start(start) ?? throw new InvalidOperationException($"{agent} can't be started.");
            try
            {
                var devices = await SettledAsync(client, process);
                requests.Clear();
                var before = Usage.Of(process.Id);
                await Task.Delay(span);
                var after = Usage.Of(process.Id);
                Console.WriteLine($"{devices} devices in status; {span.TotalSeconds:0} s in which nothing happened:");
                var threads = after.Threads.Select(t => t.Value.Since(before.Threads.GetValueOrDefault(t.Key))).OrderByDescending(t => t.Nanoseconds).ToList();
                var cpu = threads.Sum(t => t.Nanoseconds) / 1e6;
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"CPU        {cpu:0.0} ms by the scheduler ({cpu / span.TotalMilliseconds:0.000 %} of a processor); {(after.Ticks - before.Ticks) * 10} ms, user and system, in steps of 10 ms"));
                foreach (var thread in threads.Where(t => t.Waits > 0))
                    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"             {thread.Nanoseconds / 1e6:0.0} ms, {thread.Waits} wake-ups: {thread.Name}"));
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"memory     {after.Resident / 1024.0:0.0} MiB resident, {after.Anonymous / 1024.0:0.0} MiB of it its own (anonymous), {after.Threads.Count} threads"));
                Console.WriteLine($"requests   {requests.Values.Sum()} to the API server{string.Concat(requests.OrderBy(r => r.Key, StringComparer.Ordinal).Select(r => $"\n             {r.Value} x {r.Key}"))}");
                var writes = requests.Where(r => !r.Key.StartsWith("GET ", StringComparison.Ordinal)).Sum(r => r.Value);
                Console.WriteLine($"writes     {writes}");
                return writes == 0 ? 0 : 1;
            }
            finally
            {
                process.Kill();
                await process.WaitForExitAsync();
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    /// <summary>Waits until the agent has said what it sees and then says nothing new for ten seconds; the number of devices.</summary>
    private static async Task<int> SettledAsync(EntityClient client, Process process)
    {
        var waited = Stopwatch.StartNew();
        var quiet = Stopwatch.StartNew();
        string? version = null;
        while (true)
        {
            if (process.HasExited)
                throw new InvalidOperationException($"The agent ended with exit code {process.ExitCode}.");
            var node = await client.GetAsync<PciNode>(Node);
            if (node?.Metadata.ResourceVersion != version)
                (version, quiet) = (node?.Metadata.ResourceVersion, Stopwatch.StartNew());
            if (node?.Status is { Devices: { Count: > 0 } devices } && quiet.Elapsed > TimeSpan.FromSeconds(10))
                return devices.Count;
            if (waited.Elapsed > Patience)
                throw new TimeoutException($"The agent has not settled within {Patience.TotalSeconds:0} s.");
            await Task.Delay(500);
        }
    }

    /// <param name="Ticks">utime and stime, in hundredths of a second.</param>
    /// <param name="Threads">By number.</param>
    /// <param name="Resident">VmRSS, KiB.</param>
    /// <param name="Anonymous">RssAnon, KiB.</param>
    private sealed record Usage(long Ticks, IReadOnlyDictionary<string, ThreadUsage> Threads, long Resident, long Anonymous)
    {
        public static Usage Of(int pid)
        {
            var threads = Directory.GetDirectories($"/proc/{pid}/task").ToDictionary(t => t, t => new ThreadUsage(
                File.ReadAllText($"{t}/comm").Trim(), long.Parse(File.ReadAllText($"{t}/schedstat").Split(' ')[0], CultureInfo.InvariantCulture), Number($"{t}/status", "voluntary_ctxt_switches:")));
            var stat = File.ReadAllText($"/proc/{pid}/stat");
            var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return new Usage(long.Parse(fields[11], CultureInfo.InvariantCulture) + long.Parse(fields[12], CultureInfo.InvariantCulture), threads,
                Number($"/proc/{pid}/status", "VmRSS:"), Number($"/proc/{pid}/status", "RssAnon:"));
        }

        private static long Number(string file, string field) =>
            long.Parse(File.ReadLines(file).First(l => l.StartsWith(field, StringComparison.Ordinal))[field.Length..].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture);
    }

    /// <param name="Name">As the kernel shows it.</param>
    /// <param name="Nanoseconds">On a processor.</param>
    /// <param name="Waits">Times that it gave the processor up by itself.</param>
    private sealed record ThreadUsage(string Name, long Nanoseconds, long Waits)
    {
        /// <summary>From an earlier count on; null: the thread began later.</summary>
        public ThreadUsage Since(ThreadUsage? earlier) =>
            earlier is null ? this : this with { Nanoseconds = Nanoseconds - earlier.Nanoseconds, Waits = Waits - earlier.Waits };
    }
}
