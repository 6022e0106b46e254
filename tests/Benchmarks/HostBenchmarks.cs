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
    private readonly PciNode _node = new()
    {
        Metadata = new V1ObjectMeta { Name = "node-1", Uid = "1" },
    };
    private readonly CompiledRules _rules = CompiledRules.Of([new PciNodeRule { Name = "all", Devices = [new DeviceSelectorSpec()] }]);
    private readonly NodeStatusWriter _writer = new(null!, TimeSpan.Zero, TimeProvider.System, Metrics.NewCustomRegistry());
    private DirectoryInfo? _root;
    private Looks _simulated = null!;
    private Looks _onDisk = null!;
    private Uevent[] _uevent = [];
    private HostSnapshot _snapshot = null!;

    [Params("256 VFs", "64 cards of 4")]
    public string Hardware { get; set; } = "";

    [GlobalSetup]
    public void Setup()
    {
        bool vfs = Hardware == "256 VFs";
        SimulatedHost host = vfs ? LabHosts.CreateWith256Vfs() : LabHosts.CreateWith64Cards();
        _root = Directory.CreateTempSubdirectory("pcioperator-");
        host.CopyTo(_root.FullName);
        _simulated = new Looks(host.Files);
        _onDisk = new Looks(new LinuxFileSystem(_root.FullName));
        string address = vfs ? "0000:a1:02.0" : "0000:a1:00.0";
        _uevent =
        [
            new Uevent
            {
                Action = "change",
                DevPath = $"/devices/pci0000:a0/0000:a0:00.0/{address}",
                Subsystem = "pci",
                PciSlotName = address,
            },
        ];
        _snapshot = _simulated.Host.Scan();
        if (
            _snapshot.Functions.Count < 256
            || _onDisk.Host.Scan().Functions.Count != _snapshot.Functions.Count
            || _snapshot.Functions.All(f => f.Address != PciAddress.Parse(address))
        )
        {
            throw new InvalidOperationException($"{_snapshot.Functions.Count} functions: at least 256 were expected, from both.");
        }

        _node.Status = Status(_snapshot);
    }

    [GlobalCleanup]
    public void Cleanup() => _root?.Delete(recursive: true);

    [Benchmark]
    public HostSnapshot Scan_Simulated() => _simulated.Host.Scan();

    [Benchmark]
    public HostSnapshot Scan_OnDisk() => _onDisk.Host.Scan();

    [Benchmark]
    public bool Uevent_Simulated() => IsNew(Status(_simulated.Names.Restore(_simulated.Host.Scan(_uevent))));

    [Benchmark]
    public bool Uevent_OnDisk() => IsNew(Status(_onDisk.Names.Restore(_onDisk.Host.Scan(_uevent))));

    [Benchmark]
    public bool Status_WorkedOutAndCompared() => IsNew(Status(_snapshot));

    private PciNodeStatus Status(HostSnapshot seen) =>
        NodeStatusBuilder.Build(
            _node,
            seen,
            _rules,
            new Dictionary<string, PciAssignment>(),
            [],
            new Dictionary<PciAddress, string>(),
            "0.1.0",
            DateTimeOffset.UnixEpoch
        );

    private bool IsNew(PciNodeStatus status) => _writer.NewOf(_node, status) is not null;

    private sealed class Looks(IHostFileSystem files)
    {
        public PassthroughHost Host { get; } = new(files, SimulatedHost.StateDirectory);

        public NetDeviceNames Names { get; } = new(files, SimulatedHost.StateDirectory);
    }
}
