using System.Diagnostics;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Controller;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>
/// A cluster for one test: an API server of its own, the real controller, real agents on simulated hosts, and words to ask and to check
/// with.
/// </summary>
public sealed class LabCluster : IAsyncDisposable
{
    /// <summary>Long: it is how long a failure takes, not a test.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);
    private readonly TestApiServer _server;
    private readonly ILoggerFactory _logs;

    private LabCluster(TestApiServer server, SandboxCluster cluster, ILoggerFactory logs, RestorableServer? etcd) =>
        (_server, Cluster, _logs, Etcd) = (server, cluster, logs, etcd);

    /// <summary>The server's etcd, when it was asked for; null: it can't be put back.</summary>
    public RestorableServer? Etcd { get; }

    public SandboxCluster Cluster { get; }

    public EntityClient Client => Cluster.Client;

    /// <summary>The administrator's kubeconfig.</summary>
    public string KubeconfigText => _server.KubeconfigText;

    /// <summary>A server, the CRDs on it, and, unless <paramref name="controller"/> is false, one controller.</summary>
    /// <param name="real">A real API server instead of the sandbox's.</param>
    /// <param name="controller">Whether one is started.</param>
    /// <param name="installed">Everything in <c>config/</c> is applied by kubectl, and the programs are its service accounts.</param>
    /// <param name="restorable">The server's etcd can be put back (<see cref="Etcd"/>); it is away meanwhile, so the controller holds no
    /// lease.</param>
    /// <param name="pods">Pods are scheduled and run, as far as devices go.</param>
    /// <param name="log">Where the programs log; null: nowhere, or as LAB_LOG says.</param>
    /// <param name="start">Starts the API server; null: as the others say.</param>
    /// <param name="install">What <paramref name="installed"/> does instead.</param>
    public static async Task<LabCluster> StartAsync(
        bool real,
        bool controller = true,
        bool installed = false,
        bool restorable = false,
        bool pods = false,
        ILogger? log = null,
        Func<Task<TestApiServer>>? start = null,
        Func<TestApiServer, Task>? install = null
    )
    {
        ILoggerFactory logs = KubernetesLogging.Create(
            Enum.TryParse<LogLevel>(Environment.GetEnvironmentVariable("LAB_LOG"), out LogLevel level) ? level : LogLevel.Critical,
            LogFormat.Text
        );
        RestorableServer? etcd = null;
        TestApiServer server;
        if (restorable)
        {
            (server, etcd) = await TestApiServer.RestorableAsync();
        }
        else
        {
            server =
                start is not null ? await start()
                : real ? await TestApiServer.RealAsync()
                : await TestApiServer.SandboxAsync(ForOwnKinds);
        }

        var options = new SandboxClusterOptions
        {
            Log = log ?? logs.CreateLogger("lab"),
            Controller = Quick with { LeaderElect = installed && !restorable },
            RunsPods = pods,
        };
        if (installed)
        {
            await (
                install?.Invoke(server)
                ?? Kubectl.RunAsync(server.KubeconfigText, "apply", "-k", Path.Combine(Kubectl.Repository, "config"), "--validate=strict")
            );
            options = options with
            {
                ControllerAccess = ServiceAccounts.Access(server, "pcioperator-controller"),
                AgentAccess = node => ServiceAccounts.Access(server, "pcioperator-agent", node),
            };
        }

        SandboxCluster cluster = await SandboxCluster.ConnectAsync(server.Configuration, options);
        if (controller)
            cluster.StartController();
        return new LabCluster(server, cluster, logs, etcd);
    }

    /// <summary>A client with the rights of a service account beside the controller.</summary>
    public EntityClient As(string account, Func<HttpMessageHandler, HttpMessageHandler>? wrap = null) =>
        new(ServiceAccounts.Access(_server, account, ns: SandboxCluster.ControllerNamespace), ResourceJsonContext.WithOwnKinds, wrap: wrap);

    /// <summary>A controller that need not wait for anybody.</summary>
    public static ControllerOptions Quick =>
        new()
        {
            LeaderElect = false,
            DefaultDelivery = Delivery.None,
            KickDelay = TimeSpan.FromMilliseconds(20),
            CountDelay = TimeSpan.FromMilliseconds(50),
            StepDelay = TimeSpan.FromMilliseconds(50),
        };

    private static Sandbox.ApiServer.SandboxApiServerOptions ForOwnKinds =>
        new() { Validators = Sandbox.Validation.OwnResourceRules.Validators };

    /// <summary>Nodes with the hardware of the lab.</summary>
    public async Task<LabCluster> WithNodesAsync(int count)
    {
        for (int i = 1; i <= count; i++)
            await Cluster.AddNodeAsync($"node-{i}", LabHosts.Create(i), LabHosts.Labels(i));
        return this;
    }

    public async Task<LabCluster> ApplyAsync(string yaml)
    {
        await Manifests.ApplyAsync(Client, yaml);
        return this;
    }

    /// <summary>The samples' specs and aliases, and inventories that have taken them up.</summary>
    public async Task<LabCluster> WithSamplesAsync()
    {
        await ApplyAsync(await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "samples", "device-specs.yaml")));
        await ApplyAsync(await File.ReadAllTextAsync(Path.Combine(AppContext.BaseDirectory, "samples", "aliases.yaml")));
        foreach (string node in Cluster.Nodes.Keys)
            await InventoryAsync(node);
        return this;
    }

    /// <summary>Waits until a node has the rules of every spec that is for it now, and its agent has taken them up and made the VFs that they ask for.</summary>
    public async Task<PciNode> InventoryAsync(string node)
    {
        IDictionary<string, string> labels = (await Client.GetAsync<V1Node>(node))?.Metadata.Labels ?? new Dictionary<string, string>();
        string[] specs =
        [
            .. (await Client.ListAsync<PciDeviceSpec>())
                .Items.Where(s => s.Status?.Conditions.Find(Conditions.Accepted)?.Status != "False")
                .Where(s =>
                    (s.Spec.NodeSelector ?? new Dictionary<string, string>()).All(l =>
                        labels.TryGetValue(l.Key, out string? value) && value == l.Value
                    )
                )
                .Select(s => s.Metadata.Name),
        ];
        return await UntilAsync(
            $"the inventory of {node}",
            () => Client.GetAsync<PciNode>(node),
            n =>
            {
                var rules = (n.Spec.Rules ?? []).ToDictionary(r => r.Name);
                return rules.Count > 0
                    && specs.All(rules.ContainsKey)
                    && n.Status?.ObservedGeneration == n.Metadata.Generation
                    && n.Status?.Devices is { Count: > 0 } devices
                    && devices
                        .Where(d => d is { Type: DeviceType.Pf, Rule: not null, State: DeviceState.Available })
                        .All(d => rules[d.Rule!].Sriov?.NumVfs is not { } wanted || d.NumVfs == wanted);
            }
        );
    }

    /// <summary>Creates a claim: <c>"a1:2,nv2080:1"</c>, as a flavor asks.</summary>
    public async Task<PassthroughClaim> ClaimAsync(string name, string requests, Action<PassthroughClaimSpec>? configure = null)
    {
        var spec = new PassthroughClaimSpec
        {
            Requests =
            [
                .. requests
                    .Split(',')
                    .Select(
                        (r, i) =>
                            new ClaimRequest
                            {
                                Name = $"r{i}",
                                Alias = r.Split(':')[0],
                                Count = int.Parse(r.Split(':')[1]),
                            }
                    ),
            ],
        };
        configure?.Invoke(spec);
        return await Client.CreateAsync(
            new PassthroughClaim
            {
                Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = "default" },
                Spec = spec,
            }
        );
    }

    public Task<PassthroughClaim?> GetAsync(string name) => Client.GetAsync<PassthroughClaim>(name, "default");

    public Task DeleteAsync(string name) => Client.DeleteAsync<PassthroughClaim>(name, "default");

    public Task<PassthroughClaim> ReadyAsync(string name) =>
        UntilAsync($"claim {name} to be Ready", () => GetAsync(name), c => c.Status?.Conditions.IsTrue(Conditions.Ready) == true);

    /// <summary>Waits for a claim that waits, with a word in its reason.</summary>
    public Task<PassthroughClaim> PendingAsync(string name, string because) =>
        UntilAsync(
            $"claim {name} to wait because '{because}'",
            () => GetAsync(name),
            c =>
                c.Status?.Phase == ClaimPhase.Pending
                && c.Status.Conditions.Find(Conditions.Scheduled)?.Message.Contains(because, StringComparison.Ordinal) == true
        );

    public async Task GoneAsync(string name)
    {
        var began = Stopwatch.StartNew();
        while (await GetAsync(name) is { } claim)
        {
            if (began.Elapsed > Patience)
                Assert.Fail($"claim {name} is still there: {Json(claim)}");
            await Task.Delay(20);
        }
    }

    /// <summary>Waits for something of an object; says what it was instead when it does not come.</summary>
    public async Task<T> UntilAsync<T>(string what, Func<Task<T?>> read, Func<T, bool> holds, TimeSpan? patience = null)
        where T : class
    {
        var began = Stopwatch.StartNew();
        while (true)
        {
            T? now = await read();
            if (now is not null && holds(now))
                return now;
            if (began.Elapsed > (patience ?? Patience))
                Assert.Fail($"waited in vain for {what}; last seen: {(now is null ? "nothing" : Json(now))}");
            await Task.Delay(20);
        }
    }

    public SimulatedHost Host(string node) => Cluster.Nodes[node].Host;

    /// <summary>The driver that a device is bound to, asked of the host itself.</summary>
    public string? Driver(string node, string address) => DriverOf(Host(node), address);

    public static string? DriverOf(SimulatedHost host, string address) =>
        host.Files.ReadLink($"/sys/bus/pci/devices/{address}/driver") is { } link ? link[(link.LastIndexOf('/') + 1)..] : null;

    /// <summary>Every function of a host with its driver.</summary>
    public static IReadOnlyDictionary<string, string?> DriversOf(SimulatedHost host) =>
        host.Files.List("/sys/bus/pci/devices").ToDictionary(a => a, a => DriverOf(host, a));

    /// <summary>What has to hold at every moment: no device has two owners, by claims or by PciNodes.</summary>
    public async Task NoDeviceHasTwoOwnersAsync()
    {
        foreach (PciNode node in (await Client.ListAsync<PciNode>()).Items)
        {
            ILookup<string, string> owners = (node.Spec.Assignments ?? [])
                .SelectMany(a => a.Devices.Select(d => (d.Address, a.ClaimUid)))
                .ToLookup(p => p.Address, p => p.ClaimUid);
            Assert.All(owners, o => Assert.Single(o));
        }

        ILookup<(string? NodeName, string Address), string> claimed = (await Client.ListAsync<PassthroughClaim>())
            .Items.Where(c => c.Status?.NodeName is not null)
            .SelectMany(c => (c.Status!.Devices ?? []).Select(d => (c.Status.NodeName, d.Address, c.Metadata.Name)))
            .ToLookup(p => (p.NodeName, p.Address), p => p.Name);
        Assert.All(claimed, c => Assert.Single(c));
    }

    /// <summary>What has to hold when every claim is gone: all drivers as before, no assignment, no journal.</summary>
    public async Task NothingIsStrandedAsync(IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> before)
    {
        foreach ((string name, IReadOnlyDictionary<string, string?> drivers) in before)
        {
            await UntilAsync(
                $"{name} to hold nothing",
                () => Client.GetAsync<PciNode>(name),
                n => n.Spec.Assignments is not { Count: > 0 } && n.Status?.Assignments is not { Count: > 0 }
            );
            Assert.Equal(drivers, DriversOf(Host(name)));
            Assert.Empty(Host(name).Files.List("/var/lib/pcioperator/journal"));
        }
    }

    /// <summary>All hosts' drivers, to compare with later.</summary>
    public IReadOnlyDictionary<string, IReadOnlyDictionary<string, string?>> Drivers() =>
        Cluster.Nodes.ToDictionary(n => n.Key, n => DriversOf(n.Value.Host));

    public async ValueTask DisposeAsync()
    {
        await Cluster.DisposeAsync();
        await _server.DisposeAsync();
        _logs.Dispose();
    }

    private string? Json<T>(T value) =>
        value is not IKubernetesObject
            ? value?.ToString()
            : System.Text.Json.JsonSerializer.Serialize(value, Client.JsonOptions.GetTypeInfo(typeof(T)));
}
