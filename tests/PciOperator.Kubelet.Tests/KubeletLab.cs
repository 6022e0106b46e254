using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Kubelet.Tests;

/// <summary>A simulated host with devices bound for claims, the plugin on it, and a kubelet.</summary>
internal sealed class KubeletLab : IAsyncDisposable
{
    public const string Driver = NodeDouble.Driver;
    public const string Igb = "0000:21:00.0";
    public const string X520 = "0000:22:00.0";
    public const string Nvme = "0000:23:00.0";
    public static readonly string[] Gpu = ["0000:24:00.0", "0000:24:00.1", "0000:24:00.2", "0000:24:00.3"];

    private KubeletPlugin? _plugin;
    private CancellationTokenSource? _stop;
    private Task _running = Task.CompletedTask;

    public KubeletLab(TimeProvider? time = null)
    {
        Time = time ?? TimeProvider.System;
        // Short: a socket's path is.
        Root = Directory.CreateTempSubdirectory("k").FullName;
        Kubelet = new KubeletDouble(Root, "/k");
        Host = NewHost();
        Node = new NodeDouble(() => Host);
    }

    public TimeProvider Time { get; }

    public string Root { get; }

    public SimulatedHost Simulated { get; } = LabHosts.Create();

    public PassthroughHost Host { get; private set; }

    public NodeDouble Node { get; }

    public KubeletDouble Kubelet { get; }

    public KubeletPlugin Plugin => _plugin ?? throw new InvalidOperationException("the plugin is not started");

    public KubeletOptions Options { get; set; } =
        new()
        {
            Driver = Driver,
            KubeletDirectory = "/k",
            StateDirectory = SimulatedHost.StateDirectory,
            SocketCheck = TimeSpan.FromMilliseconds(50),
        };

    /// <summary>The plugin and the kubelet, and the one has the other.</summary>
    public static async Task<KubeletLab> StartAsync(TimeProvider? time = null)
    {
        var lab = new KubeletLab(time);
        lab.Kubelet.Start();
        lab.StartPlugin();
        await lab.Kubelet.WaitForPluginAsync(Driver);
        return lab;
    }

    public void StartPlugin()
    {
        _stop = new CancellationTokenSource();
        _plugin = new KubeletPlugin(Options with { SocketRoot = Root }, Node, Simulated.Files, Time, NullLogger.Instance);
        Host.Changed += _plugin.NodeChanged;
        _running = _plugin.RunAsync(_stop.Token);
    }

    public async Task StopPluginAsync()
    {
        if (_stop is null)
            return;
        await _stop.CancelAsync();
        await _running.ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        await _plugin!.DisposeAsync();
        _stop.Dispose();
        _stop = null;
    }

    /// <summary>The agent is killed, and another one starts; its sockets are made anew.</summary>
    public async Task RestartAgentAsync(bool reboot = false)
    {
        if (reboot)
            Simulated.Reboot();
        else
            Simulated.CrashAgent();
        await StopPluginAsync();
        await Kubelet.WaitForNoPluginAsync(Driver);
        Simulated.Fault = null;
        Host = NewHost();
        await Host.RecoverAsync();
        StartPlugin();
        await Kubelet.WaitForPluginAsync(Driver);
    }

    /// <summary>Gives devices to a claim, binds them, and makes the ResourceClaim that a scheduler has allocated them to.</summary>
    /// <returns>The ResourceClaim as the kubelet names it.</returns>
    public async Task<PodClaim> ClaimAsync(string name, params string[] addresses)
    {
        OfferedClaim offer = Give(name, addresses);
        await BindAsync(name, addresses);
        return Allocate(offer);
    }

    public OfferedClaim Give(string name, params string[] addresses)
    {
        var offer = new OfferedClaim
        {
            ClaimUid = $"u-{name}",
            Namespace = "lab",
            Name = name,
            Pool = $"claim-u-{name}",
            IsPrepared = false,
            Devices =
            [
                .. addresses.Select(
                    (a, i) =>
                        new OfferedDevice(
                            i == 0 ? "gpu" : $"gpu-companion-{i - 1}",
                            PciAddress.Parse(a),
                            Simulated.Find(a)!.Group,
                            IsCompanion: i > 0
                        )
                ),
            ],
        };
        Node.Given!.Add(offer);
        return offer;
    }

    public async Task BindAsync(string name, params string[] addresses)
    {
        Holding holding = await Host.PrepareAsync(Request(name, addresses));
        Assert.Equal(HoldingState.Prepared, holding.State);
    }

    public AssignmentRequest Request(string name, params string[] addresses)
    {
        var functions = Host.Scan().Functions.ToDictionary(f => f.Address.ToString(), f => f.Function);
        return new AssignmentRequest
        {
            ClaimUid = $"u-{name}",
            ClaimNamespace = "lab",
            ClaimName = name,
            Devices =
            [
                .. addresses.Select(a => new DeviceToTake
                {
                    Address = functions[a].Address,
                    VendorId = functions[a].VendorId,
                    ProductId = functions[a].ProductId,
                    IommuGroup = functions[a].IommuGroup,
                }),
            ],
        };
    }

    public PodClaim Allocate(OfferedClaim offer, string? uid = null, Func<AllocatedClaim, AllocatedClaim>? change = null)
    {
        var claim = new AllocatedClaim
        {
            Uid = uid ?? $"5f1c-{offer.Name}",
            OwnerUid = offer.ClaimUid,
            IsAllocated = true,
            Devices = [.. offer.Devices.Select(d => new AllocationResult(d.Name, Driver, offer.Pool, d.Name))],
        };
        claim = change?.Invoke(claim) ?? claim;
        Node.Claims[$"{offer.Namespace}/{offer.Name}"] = claim;
        return new PodClaim(offer.Namespace, offer.Name, claim.Uid);
    }

    /// <summary>Everything that a kubelet or a runtime could read of what was handed out, and the checkpoints.</summary>
    public IReadOnlyList<string> Written =>
        [
            .. Simulated
                .FilesBelow("/var/run/cdi")
                .Keys.Concat(Simulated.FilesBelow("/k").Keys)
                .Concat(Simulated.FilesBelow($"{SimulatedHost.StateDirectory}/resource-claims").Keys)
                .Order(StringComparer.Ordinal),
        ];

    /// <summary>What has been handed out, and nothing half of it: each checkpoint's files are there, and no others.</summary>
    public ContainerDouble Container(PreparedAnswer answer)
    {
        Assert.Equal("", answer.Error);
        return ContainerDouble.Make(Simulated.Files, answer.Devices.SelectMany(d => d.CdiIds));
    }

    public async ValueTask DisposeAsync()
    {
        await StopPluginAsync();
        await Kubelet.DisposeAsync();
        Directory.Delete(Root, recursive: true);
    }

    private PassthroughHost NewHost() => new(Simulated.Files, SimulatedHost.StateDirectory, Time);
}
