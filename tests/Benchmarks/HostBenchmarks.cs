using BenchmarkDotNet.Attributes;
using k8s.Models;
using PciOperator.Agent;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Sandbox.Hosts;
using Prometheus;

namespace PciOperator.Benchmarks;

/// <summary>
/// What an agent does on a host with 256 functions and a lab's others, everything read before: from simulated files, and from
/// files on a disk. A uevent is handled when the PciNode's new status is worked out; the wait for further uevents is not counted.
/// </summary>
[MemoryDiagnoser]
public class HostBenchmarks
{
    private readonly PciNode node = new() { Metadata = new V1ObjectMeta { Name = "node-1", Uid = "1" } };
    private readonly CompiledRules rules = CompiledRules.Of([new PciNodeRule { Name = "all", Devices = [new DeviceSelectorSpec()] }]);
    private readonly NodeStatusWriter writer = new(null!, Metrics.NewCustomRegistry());
    private DirectoryInfo? root;
    private Looks simulated = null!;
    private Looks onDisk = null!;
    private Uevent[] uevent = [];
    private HostSnapshot snapshot = null!;

    [Params("256 VFs", "64 cards of 4")]
    public string Hardware { get; set; } = "";

    [GlobalSetup]
    public void Setup()
    {
        bool vfs = Hardware == "256 VFs";
        SimulatedHost host = vfs ? LabHosts.CreateWith256Vfs() : LabHosts.CreateWith64Cards();
        root = Directory.CreateTempSubdirectory("pcioperator-");
        host.CopyTo(root.FullName);
        simulated = new Looks(host.Files);
        onDisk = new Looks(new LinuxFileSystem(root.FullName));
        string address = vfs ? "0000:a1:02.0" : "0000:a1:00.0";
        uevent = [new Uevent { Action = "change", DevPath = $"/devices/pci0000:a0/0000:a0:00.0/{address}", Subsystem = "pci", PciSlotName = address }];
        snapshot = simulated.Host.Scan();
        if (snapshot.Functions.Count < 256 || onDisk.Host.Scan().Functions.Count != snapshot.Functions.Count || snapshot.Functions.All(f => f.Address != PciAddress.Parse(address)))
            throw new InvalidOperationException($"{snapshot.Functions.Count} functions: at least 256 were expected, from both.");
        node.Status = Status(snapshot);
    }

    [GlobalCleanup]
    public void Cleanup() => root?.Delete(recursive: true);

    [Benchmark]
    public HostSnapshot Scan_Simulated() => simulated.Host.Scan();

    [Benchmark]
    public HostSnapshot Scan_OnDisk() => onDisk.Host.Scan();

    [Benchmark]
    public bool Uevent_Simulated() => IsNew(Status(simulated.Names.Restore(simulated.Host.Scan(uevent))));

    [Benchmark]
    public bool Uevent_OnDisk() => IsNew(Status(onDisk.Names.Restore(onDisk.Host.Scan(uevent))));

    [Benchmark]
    public bool Status_WorkedOutAndCompared() => IsNew(Status(snapshot));

    private PciNodeStatus Status(HostSnapshot seen) =>
        NodeStatusBuilder.Build(node, seen, rules, new Dictionary<string, PciAssignment>(), [], new Dictionary<PciAddress, string>(), "0.1.0", DateTimeOffset.UnixEpoch);

    private bool IsNew(PciNodeStatus status) => writer.NewOf(node, status) is not null;

    private sealed class Looks(IHostFileSystem files)
    {
        public PassthroughHost Host { get; } = new(files, SimulatedHost.StateDirectory);

        public NetDeviceNames Names { get; } = new(files, SimulatedHost.StateDirectory);
    }
}
