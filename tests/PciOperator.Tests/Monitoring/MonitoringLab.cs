using k8s.Models;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests.Monitoring;

/// <summary>
/// A cluster of five simulated nodes that is well, then one with nearly everything wrong that an alert is for, and then one without a leader: what
/// the real endpoints of controller and agents answer each time. Agents and controllers are the real ones; only the hosts' hardware is simulated.
/// </summary>
public sealed class MonitoringLab : IAsyncLifetime
{
    /// <summary>The tests that look at one lab.</summary>
    public const string Shared = "monitoring";

    private const string Drive = "0000:23:00.0";
    private const string Port = "0000:22:00.0";
    private readonly Gate _gate = new();
    private LabCluster _lab = null!;

    internal IReadOnlyList<Scrape> Well { get; private set; } = [];

    internal IReadOnlyList<Scrape> Troubled { get; private set; } = [];

    /// <summary>What was shown after each step on the way there, with the leader there.</summary>
    internal List<IReadOnlyList<Scrape>> Looks { get; } = [];

    internal IReadOnlyList<Scrape> Leaderless { get; private set; } = [];

    /// <summary>The administrator's kubeconfig of the troubled cluster.</summary>
    public string KubeconfigText => _lab.KubeconfigText;

    public async ValueTask InitializeAsync()
    {
        _lab = await LabCluster.StartAsync(real: false, controller: false, pods: true);
        Func<Task> stop = _lab.Cluster.StartController(LabCluster.Quick with { LeaderElect = true });
        await _lab.WithNodesAsync(5);
        await _lab.ApplyAsync(OncePerGuest);
        await _lab.ApplyAsync(Quota);
        await _lab.WithSamplesAsync();
        _lab.Cluster.Nodes["node-4"].Wrap = _gate.Around;
        await _lab.Cluster.Nodes["node-4"].StopAgentAsync();
        await _lab.Cluster.Nodes["node-4"].StartAgentAsync();
        await AgentReadyAsync("node-4");
        Looks.Add(await ScrapeAsync());
        foreach (int node in (int[])[1, 2, 4, 5])
        {
            await ReadyOnAsync($"disk-{node}", "nvme:1", $"node-{node}");
            Looks.Add(await ScrapeAsync());
        }

        await RunVmAsync();
        Looks.Add(Well = await ScrapeAsync());

        await BreakAsync();
        Looks.Add(Troubled = await ScrapeAsync());

        await stop();
        Leaderless = await ScrapeAsync();
    }

    public ValueTask DisposeAsync() => _lab.DisposeAsync();

    /// <summary>A VM gets two VFs, somebody else who asks for them does not, and it ends.</summary>
    private async Task RunVmAsync()
    {
        await _lab.ClaimAsync(
            "vm",
            "a1:2",
            s =>
            {
                s.NodeName = "node-2";
                s.Delivery = Delivery.DRA;
            }
        );
        PassthroughClaim claim = await _lab.ReadyAsync("vm");
        Looks.Add(await ScrapeAsync());
        await _lab.ApplyAsync(Pod("vm"));
        await _lab.UntilAsync("claim vm to be in use", () => _lab.GetAsync("vm"), c => c.Status!.Conditions.IsTrue(Conditions.InUse));
        Looks.Add(await ScrapeAsync());

        await _lab.ApplyAsync(Thief);
        V1ResourceSlice slice = (await _lab.Client.GetAsync<V1ResourceSlice>(ResourceObjects.SliceName(claim.Metadata.Uid!)))!;
        await SchedulerWrites.AllocateAsync(_lab.Client, slice, "default", "thief", "node-2", pod: null);
        await _lab.ApplyAsync(Pod("thief", "nodeName: node-2"));
        await _lab.UntilAsync(
            "the thief to be refused",
            () => Scrape.OfAsync(_lab.Cluster.Nodes["node-2"].Metrics, "node-2", DateTimeOffset.UtcNow)!,
            s => s!.Samples.Any(m => m.Name == "pcioperator_agent_refused_handouts_total" && m.Value > 0)
        );
        foreach (string pod in (string[])["thief", "vm"])
            await _lab.Client.DeleteAsync<V1Pod>(pod, "default", new DeleteOptions { GracePeriodSeconds = 0 });
        await _lab.Client.DeleteAsync<Resourcev1ResourceClaim>("thief", "default");
        await ReleaseAsync("vm");
    }

    private static string Pod(string name, string spec = "") =>
        $$"""
            apiVersion: v1
            kind: Pod
            metadata: {name: {{name}}, namespace: default}
            spec:
              {{spec}}
              resourceClaims: [{name: devices, resourceClaimName: {{name}}}]
              containers: [{name: compute, image: i, resources: {claims: [{name: devices}]} }]
            """;

    private const string Thief = """
        apiVersion: resource.k8s.io/v1
        kind: ResourceClaim
        metadata: {name: thief, namespace: default}
        spec: {devices: {requests: [{name: r0-0, exactly: {deviceClassName: pcioperator.io}}]}}
        """;

    private async Task BreakAsync()
    {
        // A drive is pulled out while a claim has it.
        _lab.Host("node-1").Remove(Drive);
        await UntilAsync(
            "node-1",
            n => n.Status!.Devices!.Any(d => d.State == DeviceState.Removed) && Has(n, HoldingState.Stuck, "DeviceGone")
        );
        Looks.Add(await ScrapeAsync());

        // A port comes back with half its lanes, and another reports a fatal error. Uevents tell nothing of either: a look at everything does.
        SimulatedHost second = _lab.Host("node-2");
        second.Overrun(() =>
        {
            second.Change(Port, f => f.Link!.Width = 4);
            second.Change("0000:21:00.0", f => f.Errors!.Fatal = 1);
        });
        await UntilAsync("node-2", n => HasProblem(n, "LinkDegraded") && HasProblem(n, "AerErrors"));
        Looks.Add(await ScrapeAsync());

        // A drive that no reset works on, where one is required; and a port that was for one guest alone.
        _lab.Host("node-3")
            .Change(
                Drive,
                f =>
                    f.FailingResets = new()
                    {
                        ["flr"] = Enotty,
                        ["bus"] = Enotty,
                        ["vfio hot reset"] = Enotty,
                    }
            );
        await OnAsync("unclean", "nvme:1", "node-3");
        await UntilAsync("node-3", n => IsWithheld(n, WithheldWords.NoReset));
        Looks.Add(await ScrapeAsync());
        await ReadyOnAsync("guest", "x520:1", "node-3");
        Looks.Add(await ScrapeAsync());
        await ReleaseAsync("guest");
        await UntilAsync("node-3", n => IsWithheld(n, WithheldWords.UsedOnce));
        Looks.Add(await ScrapeAsync());

        // A VM goes on with a device whose claim is deleted: that is waited for, and nobody is to be told.
        string opened = (await _lab.Client.GetAsync<PciNode>("node-2"))!.Status!.Assignments!.Single().Devices!.Single().DeviceNode!;
        second.StartProcess("qemu-system-x86", opened);
        await _lab.DeleteAsync("disk-2");
        await UntilAsync("node-2", n => Has(n, HoldingState.Releasing, "InUse"));
        Looks.Add(await ScrapeAsync());

        // An agent that hears and can't answer, and is given a claim.
        _gate.Shut();
        await OnAsync("unbound", "x520:1", "node-4");
        await _lab.UntilAsync("claim unbound to be placed", () => _lab.GetAsync("unbound"), c => c.Status?.Phase == ClaimPhase.Claimed);
        Looks.Add(await ScrapeAsync());

        // An agent that is gone while a claim of its node is deleted.
        await _lab.Cluster.Nodes["node-5"].StopAgentAsync();
        await _lab.DeleteAsync("disk-5");
        await _lab.UntilAsync("claim disk-5 to be released", () => _lab.GetAsync("disk-5"), c => c.Status?.Phase == ClaimPhase.Releasing);
        Looks.Add(await ScrapeAsync());

        // More than there is.
        await _lab.ClaimAsync("waits", "nvme:2");
        await _lab.PendingAsync("waits", "0/5 nodes");
        Looks.Add(await ScrapeAsync());

        // What no program of ours can read.
        using System.Text.Json.JsonDocument odd = await _lab.Client.SendRawAsync(
            HttpMethod.Post,
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            """{"apiVersion":"scheduling.k8s.io/v1","kind":"PriorityClass","metadata":{"name":"odd"},"value":"high"}"""u8.ToArray()
        );
        await _lab.UntilAsync(
            "the object that can't be read",
            async () => await Scrape.OfAsync(_lab.Cluster.ControllerMetrics, "controller", DateTimeOffset.UtcNow),
            s => s.Samples.Any(m => m.Name == "pcioperator_watch_cache_unreadable_objects" && m.Value > 0)
        );
    }

    private const int Enotty = 25;

    private const string OncePerGuest = """
        apiVersion: pcioperator.io/v1alpha1
        kind: PciDeviceSpec
        metadata: {name: once-per-guest}
        spec:
          priority: 10
          devices: [{vendorId: "8086", productId: "154d"}]
          physicalNetwork: storage
          oneTimeUse: true
          nodeSelector: {kubernetes.io/hostname: node-3}
        """;

    private const string Quota = """
        apiVersion: pcioperator.io/v1alpha1
        kind: PciQuota
        metadata: {name: everybody}
        spec:
          limits: [{alias: a1, devices: 40}]
        """;

    private async Task<IReadOnlyList<Scrape>> ScrapeAsync()
    {
        DateTimeOffset at = DateTimeOffset.UtcNow;
        return
        [
            await Scrape.OfAsync(_lab.Cluster.ControllerMetrics, "controller", at),
            .. await Task.WhenAll(_lab.Cluster.Nodes.Values.Select(n => Scrape.OfAsync(n.Metrics, n.Name, at))),
        ];
    }

    private Task OnAsync(string claim, string requests, string node) => _lab.ClaimAsync(claim, requests, s => s.NodeName = node);

    private async Task ReadyOnAsync(string claim, string requests, string node)
    {
        await OnAsync(claim, requests, node);
        await _lab.ReadyAsync(claim);
    }

    private async Task ReleaseAsync(string claim)
    {
        await _lab.DeleteAsync(claim);
        await _lab.GoneAsync(claim);
    }

    private Task AgentReadyAsync(string node) =>
        _lab.UntilAsync(
            $"the agent of {node}",
            () => Scrape.OfAsync(_lab.Cluster.ControllerMetrics, "controller", DateTimeOffset.UtcNow)!,
            s => s!.Samples.Any(m => m.Name == "pcioperator_node_agent_ready" && m.Labels["node"] == node && m.Value == 1)
        );

    private Task UntilAsync(string node, Func<PciNode, bool> holds) =>
        _lab.UntilAsync($"what is wrong with {node}", () => _lab.Client.GetAsync<PciNode>(node), holds);

    private static bool Has(PciNode node, HoldingState state, string reason) =>
        node.Status!.Assignments?.Any(a => a.State == state && a.Reason == reason) == true;

    private static bool HasProblem(PciNode node, string type) =>
        node.Status!.Devices!.Any(d => d.Problems?.Any(p => p.Type == type) == true);

    private static bool IsWithheld(PciNode node, string word) => node.Status!.Devices!.Any(d => d.WithheldBy == word);

    /// <summary>When it is shut no request comes through any more; answers to those before still do.</summary>
    private sealed class Gate
    {
        private volatile bool _shut;

        public void Shut() => _shut = true;

        public HttpMessageHandler Around(HttpMessageHandler inner) => new Door(this, inner);

        private sealed class Door(Gate gate, HttpMessageHandler inner) : DelegatingHandler(inner)
        {
            protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
            {
                if (gate._shut)
                    await Task.Delay(Timeout.Infinite, cancellationToken);
                return await base.SendAsync(request, cancellationToken);
            }
        }
    }
}

/// <summary>One lab for all who only look at it.</summary>
[CollectionDefinition(MonitoringLab.Shared)]
public sealed class MonitoringCollection : ICollectionFixture<MonitoringLab>;
