using BenchmarkDotNet.Attributes;
using PciOperator.Core;
using PciOperator.Core.Tests;

namespace PciOperator.Benchmarks;

/// <summary>One node's answer, with 8 pools.</summary>
[MemoryDiagnoser]
public class NodeBenchmarks
{
    private readonly NodeInventory _node = BenchmarkCluster.Node("n", [0, 1, 2, 3, 4, 5, 6, 7], new Random(1));
    private readonly NodeInventory _vfNode = BenchmarkCluster.VfNode("n", new Random(1));
    private readonly ClaimRequirements _two = BenchmarkCluster.Claim(null, (BenchmarkCluster.Alias(5), 2));
    private readonly ClaimRequirements _none = BenchmarkCluster.Claim(null, (BenchmarkCluster.Alias(99), 2));
    private readonly ClaimRequirements _required = BenchmarkCluster.Claim(NumaPolicy.Required, (BenchmarkCluster.Alias(1, 5), 2));
    private readonly ClaimRequirements _both = BenchmarkCluster.Claim(
        null,
        (BenchmarkCluster.Sriov(DeviceType.Vf), 16),
        (BenchmarkCluster.Sriov(DeviceType.Pf), 2)
    );

    private readonly HostFile _hard = HostFile.Read("too-complex");
    private readonly HostFile _worded = HostFile.Read("slow-explanation");

    private readonly NodeInventory _beyond = HardHosts.Of(26, 0).Node();
    private readonly ClaimRequirements _beyondClaim = HardHosts.Of(26, 0).Claim();

    [Benchmark(Baseline = true)]
    public NodeVerdict Fits() => Allocator.TryNode(_node, _two);

    [Benchmark]
    public NodeVerdict DoesNotFit() => Allocator.TryNode(_node, _none);

    [Benchmark]
    public NodeVerdict NumaRequired() => Allocator.TryNode(_node, _required);

    [Benchmark]
    public NodeVerdict Vfs512_WithPfs() => Allocator.TryNode(_vfNode, _both);

    /// <summary>An answer that takes all of the bound of work, and ends there: less than 50 ms.</summary>
    [Benchmark]
    public NodeVerdict Beyond_TheBound() => Allocator.TryNode(_beyond, _beyondClaim);

    /// <summary>No assignment exists.</summary>
    [Benchmark]
    public NodeVerdict Hardest_ToDecide() => Allocator.TryNode(_hard.Node, _hard.Claim);

    /// <summary>No assignment exists, and that NUMA is why is hard to tell.</summary>
    [Benchmark]
    public NodeVerdict Hardest_ToWord() => Allocator.TryNode(_worded.Node, _worded.Claim);
}
