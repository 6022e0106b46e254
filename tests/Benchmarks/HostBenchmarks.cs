using BenchmarkDotNet.Attributes;
using PciOperator.Host;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Benchmarks;

/// <summary>A look at a host with more than 256 functions, everything read before: from simulated files, and from files on a disk.</summary>
[MemoryDiagnoser]
public class HostBenchmarks
{
    private DirectoryInfo? root;
    private PassthroughHost simulated = null!;
    private PassthroughHost onDisk = null!;

    [Params("256 VFs", "64 cards of 4")]
    public string Hardware { get; set; } = "";

    [GlobalSetup]
    public void Setup()
    {
        SimulatedHost host = Hardware == "256 VFs" ? LabHosts.CreateWith256Vfs() : LabHosts.CreateWith64Cards();
        root = Directory.CreateTempSubdirectory("pcioperator-");
        host.CopyTo(root.FullName);
        simulated = new PassthroughHost(host.Files, SimulatedHost.StateDirectory);
        onDisk = new PassthroughHost(new LinuxFileSystem(root.FullName), SimulatedHost.StateDirectory);
        int functions = simulated.Scan().Functions.Count;
        if (functions < 256 || onDisk.Scan().Functions.Count != functions)
            throw new InvalidOperationException($"{functions} functions: at least 256 were expected, from both.");
    }

    [GlobalCleanup]
    public void Cleanup() => root?.Delete(recursive: true);

    [Benchmark]
    public HostSnapshot Scan_Simulated() => simulated.Scan();

    [Benchmark]
    public HostSnapshot Scan_OnDisk() => onDisk.Scan();
}
