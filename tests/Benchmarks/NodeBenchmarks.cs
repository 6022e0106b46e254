using BenchmarkDotNet.Attributes;
using PciOperator.Core;
using PciOperator.Core.Tests;

namespace PciOperator.Benchmarks;

/// <summary>One node's answer, with 8 pools.</summary>
[MemoryDiagnoser]
public class NodeBenchmarks
{
    private readonly NodeInventory node = BenchmarkCluster.Node("n", [0, 1, 2, 3, 4, 5, 6, 7], new Random(1));
    private readonly NodeInventory vfNode = BenchmarkCluster.VfNode("n", new Random(1));
    private readonly ClaimRequirements two = BenchmarkCluster.Claim(null, (BenchmarkCluster.Alias(5), 2));
    private readonly ClaimRequirements none = BenchmarkCluster.Claim(null, (BenchmarkCluster.Alias(99), 2));
    private readonly ClaimRequirements required = BenchmarkCluster.Claim(NumaPolicy.Required, (BenchmarkCluster.Alias(1, 5), 2));
    private readonly ClaimRequirements both = BenchmarkCluster.Claim(null, (BenchmarkCluster.Sriov(DeviceType.Vf), 16), (BenchmarkCluster.Sriov(DeviceType.Pf), 2));

    private readonly HostFile hard = HostFile.Read("too-complex");
    private readonly HostFile worded = HostFile.Read("slow-explanation");

    private readonly NodeInventory beyond = HardHosts.Of(26, 0).Node();
    private readonly ClaimRequirements beyondClaim = HardHosts.Of(26, 0).Claim();

    [Benchmark(Baseline = true)]
    public NodeVerdict Fits() => Allocator.TryNode(node, two);

    [Benchmark]
    public NodeVerdict DoesNotFit() => Allocator.TryNode(node, none);

    [Benchmark]
    public NodeVerdict NumaRequired() => Allocator.TryNode(node, required);

    [Benchmark]
    public NodeVerdict Vfs512_WithPfs() => Allocator.TryNode(vfNode, both);

    /// <summary>An answer that takes all of the bound of work, and ends there: less than 50 ms.</summary>
    [Benchmark]
    public NodeVerdict Beyond_TheBound() => Allocator.TryNode(beyond, beyondClaim);

    /// <summary>No assignment exists.</summary>
    [Benchmark]
    public NodeVerdict Hardest_ToDecide() => Allocator.TryNode(hard.Node, hard.Claim);

    /// <summary>No assignment exists, and that NUMA is why is hard to tell.</summary>
    [Benchmark]
    public NodeVerdict Hardest_ToWord() => Allocator.TryNode(worded.Node, worded.Claim);
}
