using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using k8s.Models;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Benchmarks;

/// <summary>
/// What a claim costs a real API server until its pod runs, and how long kube-scheduler waits for a node that it took: controller, agents,
/// kube-scheduler and kubelets of simulated nodes are in this program; the requests of the controller and the agents are counted where they
/// are sent. Watches are left out: they are as many as there are programs and kinds.
/// </summary>
internal static class DeliveryLoad
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(10);

    public static async Task<int> RunAsync(string apiServer, int claims, int nodes)
    {
        foreach (BindingMode mode in new[] { BindingMode.Immediate, BindingMode.WaitForFirstConsumer })
            await RunAsync(apiServer, mode, claims, nodes);
        return 0;
    }

    private static async Task RunAsync(string apiServer, BindingMode mode, int claims, int nodes)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("pcioperator-delivery-");
        using Process server = ClaimLoad.Start(
            apiServer,
            ["-dir", folder.FullName, "-kubeconfig", Path.Combine(folder.FullName, "kubeconfig")]
        );
        try
        {
            var calls = new ConcurrentDictionary<string, int>();
            await using SandboxCluster cluster = await SandboxCluster.ConnectAsync(
                ClusterAccess.FromKubeconfig(await ClaimLoad.ReadyAsync(server)),
                new SandboxClusterOptions
                {
                    Log = NullLogger.Instance,
                    RunsPods = true,
                    Controller = new ControllerOptions { LeaderElect = false },
                    Wrap = (program, inner) => new Counting(program, calls, inner),
                }
            );
            cluster.StartController();
            await OfferAsync(cluster, nodes);
            calls.Clear();
            await MeasureAsync(cluster, mode, claims, calls);
        }
        finally
        {
            server.Kill();
            await server.WaitForExitAsync();
            folder.Delete(recursive: true);
        }
    }

    private static async Task OfferAsync(SandboxCluster cluster, int nodes)
    {
        await cluster.Client.CreateAsync(
            new PciDeviceSpec
            {
                Metadata = new V1ObjectMeta { Name = "vfs" },
                Spec = new PciDeviceSpecSpec { Devices = [new DeviceSelectorSpec { VendorId = "8086", ProductId = "154c" }] },
            }
        );
        await cluster.Client.CreateAsync(
            new PciAlias
            {
                Metadata = new V1ObjectMeta { Name = "vf" },
                Spec = new PciAliasSpec { Devices = [new AliasDevice { VendorId = "8086", ProductId = "154c" }] },
            }
        );
        for (int i = 1; i <= nodes; i++)
            await cluster.AddNodeAsync($"node-{i}", LabHosts.CreateWith256Vfs(), LabHosts.Labels(i));
        foreach (string node in cluster.Nodes.Keys)
        {
            await UntilAsync(async () =>
                await cluster.Client.GetAsync<PciNode>(node) is { Status: { Devices.Count: > 250 } status } now
                && status.ObservedGeneration == now.Metadata.Generation
                && status.Conditions.IsTrue(Conditions.KubeletRegistered)
            );
        }
    }

    private static async Task MeasureAsync(SandboxCluster cluster, BindingMode mode, int claims, ConcurrentDictionary<string, int> calls)
    {
        using var stop = new CancellationTokenSource();
        var waits = new ConcurrentDictionary<string, (long? Taken, long? Bound)>();
        Task watching = WatchAsync(cluster.Client, waits, stop.Token);
        var took = Stopwatch.StartNew();
        await Parallel.ForEachAsync(
            Enumerable.Range(0, claims),
            new ParallelOptions { MaxDegreeOfParallelism = 32 },
            async (i, ct) =>
            {
                await cluster.Client.CreateAsync(Claim($"c{i}", mode), ct);
                (await cluster.Client.SendRawAsync(HttpMethod.Post, "/api/v1/namespaces/default/pods", Pod($"c{i}"), ct: ct)).Dispose();
            }
        );
        await UntilAsync(async () =>
            (await cluster.Client.ListAsync<V1Pod>("default")).Items.Count(p => p.Status?.Phase == "Running") == claims
        );
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{mode}: {claims} pods run after {took.Elapsed.TotalSeconds:0} s"));
        // The last statuses say which pods have the claims.
        await UntilAsync(async () =>
            (await cluster.Client.ListAsync<PassthroughClaim>("default")).Items.All(c =>
                c.Status?.Conditions.IsTrue(Conditions.InUse) == true
            )
        );
        await stop.CancelAsync();
        await watching;
        Tell(calls, claims);
        if (mode == BindingMode.WaitForFirstConsumer)
        {
            IEnumerable<TimeSpan> times = waits
                .Values.Where(w => w is { Taken: not null, Bound: not null })
                .Select(w => Stopwatch.GetElapsedTime(w.Taken!.Value, w.Bound!.Value));
            TellWaits([.. times.Order()]);
        }
    }

    private static void Tell(ConcurrentDictionary<string, int> calls, int claims)
    {
        var counts = calls.OrderByDescending(c => c.Value).ToList();
        int events = counts.Where(c => c.Key.EndsWith(" events", StringComparison.Ordinal)).Sum(c => c.Value);
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"  requests of ours from the claim to the running pod: {(counts.Sum(c => c.Value) - events) / (double)claims:0.00} a claim, and {events / (double)claims:0.00} events"
            )
        );
        foreach ((string call, int count) in counts)
            Console.WriteLine($"    {count} x {call}");
    }

    private static void TellWaits(List<TimeSpan> waits)
    {
        double At(double share) => waits[Math.Min(waits.Count - 1, (int)(share * waits.Count))].TotalMilliseconds;
        Console.WriteLine(
            waits.Count == 0
                ? "  nobody waited"
                : string.Create(
                    CultureInfo.InvariantCulture,
                    $"  from the scheduler's choice to Bound, {waits.Count} claims: median {At(0.5):0} ms, 99th percentile {At(0.99):0} ms"
                )
        );
    }

    /// <summary>When each ResourceClaim was allocated, and when it was said to be bound, as a watch tells it.</summary>
    private static async Task WatchAsync(
        EntityClient client,
        ConcurrentDictionary<string, (long? Taken, long? Bound)> waits,
        CancellationToken ct
    )
    {
        try
        {
            while (true)
            {
                await foreach (WatchEvent<Resourcev1ResourceClaim> change in client.WatchAsync<Resourcev1ResourceClaim>(ct: ct))
                {
                    if (change.Object is not { Status: { } status } resource)
                        continue;
                    long now = Stopwatch.GetTimestamp();
                    waits.AddOrUpdate(
                        resource.Metadata.Uid,
                        _ => (status.Allocation is null ? null : now, null),
                        (_, before) =>
                            (
                                before.Taken ?? (status.Allocation is null ? null : now),
                                before.Bound ?? (status.Devices is { Count: > 0 } ? now : null)
                            )
                    );
                }
            }
        }
        catch (OperationCanceledException)
        {
            // Told to stop.
        }
    }

    private static PassthroughClaim Claim(string name, BindingMode mode) =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = "default" },
            Spec = new PassthroughClaimSpec { Requests = [new ClaimRequest { Name = "nic", Alias = "vf" }], BindingMode = mode },
        };

    private static byte[] Pod(string claim) =>
        JsonSerializer.SerializeToUtf8Bytes(
            JsonNode.Parse(
                $$$"""
                {"apiVersion":"v1","kind":"Pod","metadata":{"name":"{{{claim}}}","namespace":"default"},
                 "spec":{"resourceClaims":[{"name":"d","resourceClaimName":"{{{claim}}}"}],"containers":[{"name":"c","image":"i","resources":{"claims":[{"name":"d"}]} }]} }
                """
            )
        );

    private static async Task UntilAsync(Func<Task<bool>> holds)
    {
        var began = Stopwatch.StartNew();
        while (!await holds())
        {
            if (began.Elapsed > Patience)
                throw new TimeoutException("It did not come to that.");
            await Task.Delay(250);
        }
    }

    private sealed class Counting(string program, ConcurrentDictionary<string, int> calls, HttpMessageHandler inner)
        : DelegatingHandler(inner)
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (request.RequestUri?.Query.Contains("watch=", StringComparison.Ordinal) != true)
                calls.AddOrUpdate($"{program} {request.Method} {Resource(request.RequestUri!.AbsolutePath)}", 1, (_, n) => n + 1);
            return base.SendAsync(request, cancellationToken);
        }

        /// <summary>The resource and subresource of a path, without names.</summary>
        private static string Resource(string path)
        {
            string[] parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries);
            int at = parts[0] == "api" ? 2 : 3;
            if (parts.Length > at + 2 && parts[at] == "namespaces")
                at += 2;
            return parts.Length <= at ? path : parts[at] + (parts.Length > at + 2 ? "/" + parts[at + 2] : "");
        }
    }
}
