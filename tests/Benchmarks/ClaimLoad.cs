using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Api;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Benchmarks;

/// <summary>
/// What many claims at once cost a real API server: the controller is a process of its own, agents of simulated nodes are in this one, and
/// the server itself counts the requests (apiserver_request_total), from which those of this program (creating, deleting and listing
/// claims) are left out. Watches are not counted: they are as many as there are programs and kinds.
/// </summary>
internal static partial class ClaimLoad
{
    private const string Claims = "passthroughclaims";
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(20);

    public static async Task<int> RunAsync(string apiServer, string controller, int claims, int nodes, int waiting)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("pcioperator-load-");
        using Process server = Start(apiServer, ["-dir", folder.FullName, "-kubeconfig", Path.Combine(folder.FullName, "kubeconfig")]);
        try
        {
            string kubeconfig = await ReadyAsync(server);
            KubernetesClientConfiguration access = ClusterAccess.FromKubeconfig(kubeconfig);
            await using SandboxCluster cluster = await SandboxCluster.ConnectAsync(
                access,
                new SandboxClusterOptions { Log = NullLogger.Instance }
            );
            string[] arguments =
            [
                "--kubeconfig",
                kubeconfig,
                "--leader-elect",
                "false",
                "--health-address",
                "127.0.0.1:0",
                "--log-level",
                "error",
                "--default-delivery",
                nameof(Delivery.None),
            ];
            using Process program = controller.EndsWith(".dll", StringComparison.Ordinal)
                ? Start("dotnet", [controller, .. arguments])
                : Start(controller, arguments);
            try
            {
                return await MeasureAsync(new Load(cluster, folder, program), claims, nodes, waiting);
            }
            finally
            {
                program.Kill();
                await program.WaitForExitAsync();
            }
        }
        finally
        {
            server.Kill();
            await server.WaitForExitAsync();
            folder.Delete(recursive: true);
        }
    }

    private static async Task<int> MeasureAsync(Load load, int claims, int nodes, int waiting)
    {
        await load.AddNodesAsync(nodes);
        IReadOnlyDictionary<string, string?> drivers = load.Drivers();
        Console.WriteLine($"{claims} claims for a VF each, {nodes} nodes; the controller has {load.ResidentMiB("VmRSS"):0.0} MiB");

        IReadOnlyDictionary<string, long> before = await load.CountAsync();
        var took = Stopwatch.StartNew();
        await load.CreateAsync(claims, "c", "vf");
        await load.UntilAsync(
            "all claims to be Ready",
            list => list.Count(c => c.Status?.Conditions.IsTrue(Conditions.Ready) == true) == claims
        );
        IReadOnlyDictionary<string, long> ready = await load.CountAsync();
        Console.WriteLine($"Ready after {took.Elapsed.TotalSeconds:0} s");
        double perClaim = Tell("until Ready", before, ready, claims);
        Console.WriteLine(
            string.Create(CultureInfo.InvariantCulture, $"the controller's memory at its peak: {load.ResidentMiB("VmHWM"):0.0} MiB")
        );

        took.Restart();
        await load.DeleteAsync();
        await load.UntilAsync("all claims to be gone", list => list.Count == 0);
        Console.WriteLine($"released after {took.Elapsed.TotalSeconds:0} s");
        Tell("until released", ready, await load.CountAsync(), claims);
        IReadOnlyList<string> stranded = await load.StrandedAsync(drivers);
        Console.WriteLine(
            stranded.Count == 0
                ? "nothing is stranded: no finalizer, no assignment, no journal entry, every driver as before"
                : string.Join('\n', stranded)
        );

        await load.CreateAsync(waiting, "w", "none", 16);
        await load.UntilAsync("claims to wait", list => list.Count(c => c.Status?.Phase == ClaimPhase.Pending) == waiting);
        await load.QuietAsync();
        before = await load.CountAsync();
        await load.CordonAsync();
        await load.QuietAsync();
        IReadOnlyDictionary<string, long> after = await load.CountAsync();
        Console.WriteLine(
            $"{waiting} claims that wait, one cordon: {Number(after, $"PUT {Claims}/status") - Number(before, $"PUT {Claims}/status")} statuses of claims written"
        );
        Tell("for the cordon", before, after, waiting);
        Console.WriteLine(
            string.Create(CultureInfo.InvariantCulture, $"the controller's memory at its peak: {load.ResidentMiB("VmHWM"):0.0} MiB")
        );
        return perClaim <= 3.1 && stranded.Count == 0 ? 0 : 1;
    }

    /// <summary>What was asked of the server between two counts, without what this program asked itself.</summary>
    private static double Tell(string until, IReadOnlyDictionary<string, long> before, IReadOnlyDictionary<string, long> after, int claims)
    {
        var counts = after
            .Select(p => (Request: p.Key, Count: p.Value - Number(before, p.Key)))
            .Where(p =>
                p.Count > 0
                && p.Request is not ($"POST {Claims}" or $"DELETE {Claims}" or $"LIST {Claims}")
                && !p.Request.StartsWith("WATCH ", StringComparison.Ordinal)
            )
            .OrderByDescending(p => p.Count)
            .ToList();
        long events = counts.Where(p => p.Request.EndsWith(" events", StringComparison.Ordinal)).Sum(p => p.Count);
        long sum = counts.Sum(p => p.Count) - events;
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"requests {until}: {(double)sum / claims:0.00} a claim, and {(double)events / claims:0.00} events"
            )
        );
        foreach ((string? request, long count) in counts)
            Console.WriteLine($"  {count} x {request}");
        return (double)sum / claims;
    }

    private static long Number(IReadOnlyDictionary<string, long> counts, string request) => counts.GetValueOrDefault(request);

    internal static Process Start(string file, IEnumerable<string> arguments)
    {
        Process process =
            Process.Start(new ProcessStartInfo(file, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })
            ?? throw new InvalidOperationException($"{file} can't be started.");
        // Servers log much, and nobody reads it here; a pipe that is full would hold them up.
        process.BeginErrorReadLine();
        return process;
    }

    internal static async Task<string> ReadyAsync(Process server)
    {
        while (await server.StandardOutput.ReadLineAsync() is { } line)
        {
            if (line.StartsWith("READY ", StringComparison.Ordinal))
                return line["READY ".Length..].Trim();
        }

        throw new InvalidOperationException("The API server ended before it was ready.");
    }

    /// <summary>Nodes with 252 VFs each, and claims for them.</summary>
    private sealed partial class Load(SandboxCluster cluster, DirectoryInfo folder, Process controller)
    {
        private readonly HttpClient _metrics = Metrics(folder);

        public async Task AddNodesAsync(int nodes)
        {
            await cluster.Client.CreateAsync(
                new PciDeviceSpec
                {
                    Metadata = new V1ObjectMeta { Name = "vfs" },
                    Spec = new PciDeviceSpecSpec { Devices = [new DeviceSelectorSpec { VendorId = "8086", ProductId = "154c" }] },
                }
            );
            foreach ((string? name, string? product) in new[] { ("vf", "154c"), ("none", "1572") })
            {
                await cluster.Client.CreateAsync(
                    new PciAlias
                    {
                        Metadata = new V1ObjectMeta { Name = name },
                        Spec = new PciAliasSpec { Devices = [new AliasDevice { VendorId = "8086", ProductId = product }] },
                    }
                );
            }

            for (int i = 1; i <= nodes; i++)
                await cluster.AddNodeAsync($"node-{i}", LabHosts.CreateWith256Vfs(), LabHosts.Labels(i));
            foreach (string node in cluster.Nodes.Keys)
            {
                await PatientlyAsync(
                    $"the inventory of {node}",
                    () => cluster.Client.GetAsync<PciNode>(node),
                    n =>
                        n.Spec.Rules is { Count: > 0 }
                        && n.Status?.Devices?.Count > 250
                        && n.Status.ObservedGeneration == n.Metadata.Generation
                );
            }

            await QuietAsync();
        }

        public async Task CreateAsync(int count, string prefix, string alias, int of = 1)
        {
            await Parallel.ForEachAsync(
                Enumerable.Range(0, count),
                new ParallelOptions { MaxDegreeOfParallelism = 32 },
                async (i, ct) =>
                    await cluster.Client.CreateAsync(
                        new PassthroughClaim
                        {
                            Metadata = new V1ObjectMeta { Name = $"{prefix}{i}", NamespaceProperty = "default" },
                            Spec = new PassthroughClaimSpec
                            {
                                Requests =
                                [
                                    new ClaimRequest
                                    {
                                        Name = "r",
                                        Alias = alias,
                                        Count = of,
                                    },
                                ],
                            },
                        },
                        ct
                    )
            );
        }

        public async Task DeleteAsync()
        {
            IList<PassthroughClaim> claims = (await cluster.Client.ListAsync<PassthroughClaim>()).Items;
            await Parallel.ForEachAsync(
                claims,
                new ParallelOptions { MaxDegreeOfParallelism = 32 },
                async (c, ct) => await cluster.Client.DeleteAsync<PassthroughClaim>(c.Metadata.Name!, "default", ct: ct)
            );
        }

        public Task UntilAsync(string what, Func<IReadOnlyList<PassthroughClaim>, bool> holds) =>
            PatientlyAsync(
                what,
                async () => (IReadOnlyList<PassthroughClaim>?)(await cluster.Client.ListAsync<PassthroughClaim>()).Items,
                holds
            );

        public async Task CordonAsync() =>
            await cluster.Client.PatchAsync<V1Node>("node-1", null, EntityPatch.Merge("""{"spec":{"unschedulable":true}}"""));

        /// <summary>Waits until nothing was written for ten seconds.</summary>
        public async Task QuietAsync()
        {
            for (long last = -1; ; )
            {
                long now = (await CountAsync())
                    .Where(p =>
                        !p.Key.StartsWith("GET ", StringComparison.Ordinal) && !p.Key.StartsWith("WATCH ", StringComparison.Ordinal)
                    )
                    .Sum(p => p.Value);
                if (now == last)
                    return;
                last = now;
                await Task.Delay(TimeSpan.FromSeconds(10));
            }
        }

        public IReadOnlyDictionary<string, string?> Drivers() =>
            cluster
                .Nodes.SelectMany(n =>
                    n.Value.Host.Files.List("/sys/bus/pci/devices")
                        .Select(a => ($"{n.Key} {a}", n.Value.Host.Files.ReadLink($"/sys/bus/pci/devices/{a}/driver")))
                )
                .ToDictionary(p => p.Item1, p => p.Item2);

        public async Task<IReadOnlyList<string>> StrandedAsync(IReadOnlyDictionary<string, string?> before)
        {
            IReadOnlyDictionary<string, string?> now = Drivers();
            List<string> stranded =
            [
                .. before
                    .Where(d => now.GetValueOrDefault(d.Key) != d.Value)
                    .Select(d => $"{d.Key} was on {d.Value}, is on {now.GetValueOrDefault(d.Key)}"),
            ];
            foreach (PciNode node in (await cluster.Client.ListAsync<PciNode>()).Items)
            {
                if (node.Spec.Assignments is { Count: > 0 } || node.Status?.Assignments is { Count: > 0 })
                {
                    stranded.Add(
                        $"{node.Metadata.Name} has {node.Spec.Assignments?.Count ?? 0} assignments and holds {node.Status?.Assignments?.Count ?? 0}"
                    );
                }
            }

            stranded.AddRange(
                cluster.Nodes.SelectMany(n =>
                    n.Value.Host.Files.List("/var/lib/pcioperator/journal").Select(f => $"{n.Key} has journal entry {f}")
                )
            );
            return stranded;
        }

        /// <summary>Requests so far, by verb and resource.</summary>
        public async Task<IReadOnlyDictionary<string, long>> CountAsync()
        {
            var counts = new Dictionary<string, long>();
            foreach (
                string line in (await _metrics.GetStringAsync(new Uri("/metrics", UriKind.Relative)))
                    .Split('\n')
                    .Where(l => l.StartsWith("apiserver_request_total{", StringComparison.Ordinal))
            )
            {
                var labels = Label().Matches(line).ToDictionary(m => m.Groups[1].Value, m => m.Groups[2].Value);
                string request =
                    $"{labels["verb"]} {labels["resource"]}{(labels["subresource"].Length > 0 ? "/" : "")}{labels["subresource"].TrimStart('/')}{(labels["code"][0] == '2' || labels["code"] == "0" ? "" : $" ({labels["code"]})")}";
                if (labels["resource"].Length > 0)
                {
                    counts[request] =
                        counts.GetValueOrDefault(request)
                        + (long)double.Parse(line[(line.LastIndexOf(' ') + 1)..], CultureInfo.InvariantCulture);
                }
            }

            return counts;
        }

        /// <summary>A field of the controller's memory (proc_pid_status(5)).</summary>
        public double ResidentMiB(string field) =>
            controller.HasExited
                ? throw new InvalidOperationException($"The controller ended with exit code {controller.ExitCode}.")
                : ProcessUsage.MemoryOf(controller.Id, field) / 1024.0;

        private static async Task PatientlyAsync<T>(string what, Func<Task<T?>> read, Func<T, bool> holds)
            where T : class
        {
            for (var waited = Stopwatch.StartNew(); ; )
            {
                if (await read() is { } now && holds(now))
                    return;
                if (waited.Elapsed > Patience)
                    throw new TimeoutException($"Waited in vain for {what}.");
                await Task.Delay(TimeSpan.FromSeconds(10)); // a list of thousands costs the server more than what is counted
            }
        }

        private static HttpClient Metrics(DirectoryInfo folder)
        {
            KubernetesClientConfiguration access = ClusterAccess.FromKubeconfig(Path.Combine(folder.FullName, "kubeconfig"));
            return new HttpClient(new SocketsHttpHandler { SslOptions = ClusterAccess.TlsOptions(access) })
            {
                BaseAddress = new Uri(access.Host),
            };
        }

        [GeneratedRegex("([a-z_]+)=\"([^\"]*)\"")]
        private static partial Regex Label();
    }
}
