using BenchmarkDotNet.Attributes;
using PciOperator.Core;

namespace PciOperator.Benchmarks;

/// <summary>One decision over a cluster of nodes × 8 pools × 16 devices, hardly two nodes alike.</summary>
[MemoryDiagnoser]
public class DecisionBenchmarks
{
    private ClusterInventory _mixed = ClusterInventory.Empty;
    private ClusterInventory _same = ClusterInventory.Empty;
    private ClusterInventory _vfs = ClusterInventory.Empty;
    private NodeInventory _changed = NodeInventory.Build("n", []);

    private readonly ClaimRequirements _typical = BenchmarkCluster.Claim(null, (BenchmarkCluster.Alias(5), 2));
    private readonly ClaimRequirements _everythingFits = BenchmarkCluster.Claim(null, (BenchmarkCluster.Alias(5), 1));
    private readonly ClaimRequirements _noSuchDevice = BenchmarkCluster.Claim(null, (BenchmarkCluster.Alias(999), 1));
    private readonly ClaimRequirements _tooFew = BenchmarkCluster.Claim(
        null,
        (BenchmarkCluster.Alias(5), 16),
        (BenchmarkCluster.Alias(6), 16)
    );
    private readonly ClaimRequirements _anyOfRequired = BenchmarkCluster.Claim(
        NumaPolicy.Required,
        (BenchmarkCluster.Alias(1, 2, 5, 6), 12),
        (BenchmarkCluster.Alias(1, 5, 7), 6)
    );
    private readonly ClaimRequirements _numaRefuses = BenchmarkCluster.Claim(
        NumaPolicy.Required,
        (BenchmarkCluster.Alias(1), 8),
        (BenchmarkCluster.Alias(2), 8)
    );
    private readonly ClaimRequirements _vfAndPf = BenchmarkCluster.Claim(
        null,
        (BenchmarkCluster.Sriov(DeviceType.Vf), 16),
        (BenchmarkCluster.Sriov(DeviceType.Pf), 2)
    );

    /// <summary>Nodes in the cluster.</summary>
    [Params(100, 1000, 5000)]
    public int Nodes { get; set; }

    [GlobalSetup(Targets = [nameof(Typical), nameof(NothingFits_NoSuchDevice)])]
    public void BuildMixed() => _mixed = BenchmarkCluster.Of(Nodes, 64);

    [GlobalSetup(
        Targets = [
            nameof(EverythingFits),
            nameof(NothingFits_TooFewFree),
            nameof(NothingFits_NumaRequired),
            nameof(AnyOf_NumaRequired),
            nameof(OneNodeChanges),
        ]
    )]
    public void BuildSame()
    {
        _same = BenchmarkCluster.Of(Nodes, 8);
        _changed = BenchmarkCluster.Node($"node-{Nodes / 2:d5}", [0, 1, 2, 3, 4, 5, 6, 7], new Random(3));
    }

    [GlobalSetup(Target = nameof(Vfs512))]
    public void BuildVfs()
    {
        var random = new Random(3);
        _vfs = ClusterInventory.Of(Enumerable.Range(0, Nodes).Select(n => BenchmarkCluster.VfNode($"node-{n:d5}", random)));
    }

    /// <summary>Two devices of an alias that one node in eight has.</summary>
    [Benchmark(Baseline = true)]
    public Decision Typical() => Allocator.Decide(_mixed, _typical);

    /// <summary>One device that every node has.</summary>
    [Benchmark]
    public Decision EverythingFits() => Allocator.Decide(_same, _everythingFits);

    /// <summary>A device that no node has.</summary>
    [Benchmark]
    public Decision NothingFits_NoSuchDevice() => Allocator.Decide(_mixed, _noSuchDevice);

    /// <summary>More than any node has free: a reason for each node.</summary>
    [Benchmark]
    public Decision NothingFits_TooFewFree() => Allocator.Decide(_same, _tooFew);

    /// <summary>Enough on every node, nowhere on one NUMA node: every node is solved, and solved again for the reason.</summary>
    [Benchmark]
    public Decision NothingFits_NumaRequired() => Allocator.Decide(_same, _numaRefuses);

    /// <summary>Two any-of requests under policy required, for a guest whose place is open, that few nodes can serve.</summary>
    [Benchmark]
    public Decision AnyOf_NumaRequired() => Allocator.Decide(_same, _anyOfRequired);

    /// <summary>512 VFs on each node: 16 VFs and 2 whole PFs.</summary>
    [Benchmark]
    public Decision Vfs512() => Allocator.Decide(_vfs, _vfAndPf);

    /// <summary>One node's change makes a new snapshot.</summary>
    [Benchmark]
    public ClusterInventory OneNodeChanges() => _same.With(_changed);
}
