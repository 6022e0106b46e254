using System.Collections.Concurrent;
using k8s.Models;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Agent;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Host;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Testing;
using Prometheus;

namespace PciOperator.Tests;

/// <summary>Two installations in one cluster, against the sandbox's API server.</summary>
public sealed class SandboxTwoInstallationsTests : TwoInstallationsTests
{
    protected override bool Real => false;
}

/// <summary>The same against a real one.</summary>
[Turns(6)]
public sealed class RealTwoInstallationsTests : TwoInstallationsTests
{
    protected override bool Real => true;
}

/// <summary>A cluster is one installation's: the other's controller and agents say so and stay still, until it is handed over.</summary>
public abstract class TwoInstallationsTests
{
    private static readonly ControllerOptions Second = LabCluster.Quick with
    {
        Namespace = "second",
        AgentNamespace = "second-agents",
        LeaseName = "pcioperator-controller",
    };

    protected abstract bool Real { get; }

    [TurnFact]
    public async Task A_second_controller_says_so_and_stays_still()
    {
        await using LabCluster lab = await (await (await LabCluster.StartAsync(Real)).WithNodesAsync(1)).WithSamplesAsync();
        await lab.ClaimAsync("first", "a1:1");
        await lab.ReadyAsync("first");
        await lab.ApplyAsync("{apiVersion: v1, kind: Namespace, metadata: {name: second}}");

        foreach (ControllerOptions options in new[] { Second, LabCluster.Quick with { LeaseName = "another" } })
        {
            await using var second = new RunningController(lab, options);
            string why = await lab.UntilAsync(
                "the second to say why it is not ready",
                () => Task.FromResult(second.Controller.NotReady()),
                w => w.Contains("belong to installation", StringComparison.Ordinal)
            );
            Assert.Contains(
                $"installation pcioperator-controller/pcioperator-controller, and this controller is of {options.Namespace}/{options.LeaseName}",
                why,
                StringComparison.Ordinal
            );
            Assert.Contains(
                $"kubectl annotate pcinodes --all --overwrite pcioperator.io/installation={options.Namespace}/{options.LeaseName}",
                why,
                StringComparison.Ordinal
            );
            Assert.Null(second.Controller.WhyStuck());
            Eventsv1Event said = await lab.UntilAsync(
                "the event in its own namespace",
                async () =>
                    (await lab.Client.ListAsync<Eventsv1Event>(options.Namespace)).Items.FirstOrDefault(e =>
                        e.Regarding?.Name == options.LeaseName
                    ),
                _ => true
            );
            Assert.Equal(("Warning", "OtherInstallation"), (said.Type, said.Reason));

            // Nothing of what happens meanwhile moves it.
            string name = $"meanwhile-{options.LeaseName}";
            await lab.ClaimAsync(name, "a1:1");
            await lab.ReadyAsync(name);
            await lab.DeleteAsync(name);
            await lab.GoneAsync(name);
            Assert.All(second.Writes, w => Assert.Contains("/events", w, StringComparison.Ordinal));
            Assert.NotNull(second.Controller.NotReady());
        }
    }

    [TurnFact]
    public async Task An_agent_of_a_second_installation_neither_binds_nor_writes()
    {
        await using LabCluster lab = await (await (await LabCluster.StartAsync(Real)).WithNodesAsync(1)).WithSamplesAsync();
        await lab.ClaimAsync("first", "a1:1");
        await lab.ReadyAsync("first");

        foreach (
            Installation other in new[]
            {
                Second.Installation,
                Installation.Default with
                {
                    AgentNamespace = "second-agents",
                },
                Installation.Default with
                {
                    Controller = "pcioperator-controller/another",
                },
            }
        )
        {
            var writes = new ConcurrentQueue<string>();
            using var client = new EntityClient(
                lab.Cluster.Admin,
                ResourceJsonContext.WithOwnKinds,
                wrap: inner => new WritesSeen(inner, writes)
            );
            CollectorRegistry metrics = Metrics.NewCustomRegistry();
            await using var events = new EventRecorder(client, "pcioperator-agent", "second");
            IHostFileSystem files = lab.Host("node-1").Files;
            using var stop = new CancellationTokenSource();
            await using var agent = new NodeAgent(
                new NodeAgentOptions { NodeName = "node-1", Installation = other },
                client,
                new PassthroughHost(files, "/var/lib/second", options: new PassthroughHostOptions { NodeName = "node-1" }),
                files,
                "/var/lib/second",
                new NoUevents(),
                TimeProvider.System,
                NullLogger.Instance,
                metrics,
                events
            );
            Task running = agent.RunAsync(stop.Token);
            string why = await lab.UntilAsync(
                "the second agent to say why",
                () => Task.FromResult(agent.NotReady()),
                w => w.Contains("belongs to installation", StringComparison.Ordinal)
            );
            Assert.Contains($"this agent is of {other.Controller} in namespace {other.AgentNamespace}", why, StringComparison.Ordinal);

            // The other one's agent goes on; this one would give back what its journal does not have.
            await lab.ClaimAsync("more", "nvme:1");
            await lab.ReadyAsync("more");
            await lab.DeleteAsync("more");
            await lab.GoneAsync("more");
            Assert.Empty(writes);
            Assert.Empty(files.List("/var/lib/second/journal"));
            await stop.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        }
    }

    [TurnFact]
    public async Task A_cluster_is_handed_over_by_its_mark_and_devices_stay()
    {
        await using LabCluster lab = await LabCluster.StartAsync(Real, controller: false);
        await using var first = new RunningController(lab, LabCluster.Quick);
        await (await lab.WithNodesAsync(2)).WithSamplesAsync();
        IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before = lab.Drivers();
        await lab.ClaimAsync("kept", "a1:2");
        PassthroughClaim kept = await lab.ReadyAsync("kept");
        await using var second = new RunningController(lab, Second);
        await lab.UntilAsync(
            "the second to stay still",
            () => Task.FromResult(second.Controller.NotReady()),
            w => w.Contains("hand the cluster over", StringComparison.Ordinal)
        );

        // Word for word what the second says.
        foreach (string node in lab.Cluster.Nodes.Keys)
        {
            await lab.Client.PatchAsync<PciNode>(
                node,
                null,
                EntityPatch.Merge(
                    """{"metadata":{"annotations":{"pcioperator.io/installation":"second/pcioperator-controller","pcioperator.io/agents":"second-agents"}}}"""
                )
            );
        }

        HandedOverException ended = await Assert.ThrowsAsync<HandedOverException>(() => first.Running);
        Assert.Contains("handed over to installation second/pcioperator-controller", ended.Message, StringComparison.Ordinal);
        await lab.UntilAsync(
            "the second to work",
            () => Task.FromResult<string?>(second.Controller.NotReady() ?? "ready"),
            w => w == "ready"
        );

        // The first one's agents are nobody's any more; those of the second take over with the same state folder.
        PassthroughClaimStatus status = (await lab.GetAsync("kept"))!.Status!;
        Assert.Equal(kept.Status!.Devices!.Select(d => d.Address), status.Devices!.Select(d => d.Address));
        Assert.All(status.Devices!, d => Assert.Equal("vfio-pci", lab.Driver(status.NodeName!, d.Address)));
        await lab.ApplyAsync("{apiVersion: v1, kind: Namespace, metadata: {name: second-agents}}");
        foreach (SimulatedNode node in lab.Cluster.Nodes.Values)
        {
            await node.StopAgentAsync();
            node.Installation = Second.Installation;
            await node.StartAgentAsync();
            await new SimulatedKubelet(lab.Client, node.Name, "second-agents").SetAgentReadyAsync(true);
        }

        await lab.ReadyAsync("kept");
        await lab.ClaimAsync("new", "a1:1");
        await lab.ReadyAsync("new");
        foreach (string name in new[] { "kept", "new" })
        {
            await lab.DeleteAsync(name);
            await lab.GoneAsync(name);
        }

        await lab.NothingIsStrandedAsync(before);
    }

    [TurnFact]
    public async Task Of_two_that_begin_at_once_one_gets_the_cluster_and_PciNodes_of_before_are_marked()
    {
        await using LabCluster lab = await LabCluster.StartAsync(Real, controller: false);
        const int count = 12;
        for (int i = 0; i < count; i++)
            await lab.ApplyAsync($"{{apiVersion: v1, kind: Node, metadata: {{name: n{i}}}}}");
        // As a version that knew no marks has left them.
        for (int i = 0; i < count; i += 2)
        {
            await lab.Client.CreateAsync(
                new PciNode
                {
                    Metadata = new V1ObjectMeta { Name = $"n{i}", Finalizers = [PciOperatorApi.NodeFinalizer] },
                }
            );
        }

        await using var first = new RunningController(lab, LabCluster.Quick, restarts: true);
        await using var second = new RunningController(lab, Second, restarts: true);
        IList<PciNode> nodes = await lab.UntilAsync(
            "every PciNode to have one mark",
            async () => (await lab.Client.ListAsync<PciNode>()).Items,
            list => list.Count == count && list.Select(Installation.OwnerOf).Distinct().ToList() is [not null]
        );
        (RunningController owner, RunningController other) =
            Installation.OwnerOf(nodes) == Second.Installation.Controller ? (second, first) : (first, second);
        await lab.UntilAsync(
            "the other one to stay still",
            () => Task.FromResult(other.Controller.NotReady()),
            w => w.Contains("belong to installation", StringComparison.Ordinal)
        );
        await lab.UntilAsync(
            "the owner to work",
            () => Task.FromResult<string?>(owner.Controller.NotReady() ?? "ready"),
            w => w == "ready"
        );
    }

    /// <summary>A controller of some installation.</summary>
    private sealed class RunningController : IAsyncDisposable
    {
        private readonly CancellationTokenSource _stop = new();
        private readonly EntityClient _client;
        private readonly EventRecorder _events;
        private readonly ConcurrentQueue<string> _writes = new();

        /// <summary>
        /// Starts it; with <paramref name="restarts"/> again whenever it ends because the cluster is another's, as a kubelet does.
        /// </summary>
        public RunningController(LabCluster lab, ControllerOptions options, bool restarts = false)
        {
            _client = new EntityClient(
                lab.Cluster.Admin,
                ResourceJsonContext.WithOwnKinds,
                wrap: inner => new WritesSeen(inner, _writes),
                fieldManager: "pcioperator-controller"
            );
            _events = new EventRecorder(_client, "pcioperator-controller", options.Identity);
            Controller = Make();
            Running = RunAsync();

            PciController Make() => new(_client, options, TimeProvider.System, NullLogger.Instance, Metrics.NewCustomRegistry(), _events);

            async Task RunAsync()
            {
                while (true)
                {
                    try
                    {
                        await Controller.RunAsync(_stop.Token);
                        return;
                    }
                    catch (HandedOverException) when (restarts)
                    {
                        Controller = Make();
                    }
                }
            }
        }

        public PciController Controller { get; private set; }

        public Task Running { get; }

        /// <summary>The requests that write.</summary>
        public IReadOnlyCollection<string> Writes => _writes;

        public async ValueTask DisposeAsync()
        {
            await _stop.CancelAsync();
            await Running.ContinueWith(_ => { }, TaskScheduler.Default);
            await _events.DisposeAsync();
            _client.Dispose();
            _stop.Dispose();
        }
    }

    private sealed class WritesSeen(HttpMessageHandler inner, ConcurrentQueue<string> writes) : DelegatingHandler(inner)
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            if (request.Method != HttpMethod.Get)
                writes.Enqueue($"{request.Method} {request.RequestUri!.AbsolutePath}");
            return base.SendAsync(request, cancellationToken);
        }
    }

    private sealed class NoUevents : IUeventSource
    {
        public async IAsyncEnumerable<Uevent> ReadAsync(
            [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken ct = default
        )
        {
            await Task.Delay(Timeout.Infinite, ct);
            yield break;
        }
    }
}
