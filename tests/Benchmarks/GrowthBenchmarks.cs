using BenchmarkDotNet.Attributes;
using PciOperator.Core;

namespace PciOperator.Benchmarks;

/// <summary>5,000 nodes of which few or many have what is asked for: the cost follows those that can match.</summary>
[MemoryDiagnoser]
public class GrowthBenchmarks
{
    private ClusterInventory _cluster = ClusterInventory.Empty;
    private readonly ClaimRequirements _claim = BenchmarkCluster.Claim(NumaPolicy.Required, (BenchmarkCluster.Alias(0), 2));

    /// <summary>Nodes that have a device of the alias, of 5,000.</summary>
    [Params(5, 50, 500, 5000)]
    public int NodesThatCanMatch { get; set; }

    [GlobalSetup]
    public void Build()
    {
        var random = new Random(5);
        int every = 5000 / NodesThatCanMatch;
        _cluster = ClusterInventory.Of(
            Enumerable
                .Range(0, 5000)
                .Select(n =>
                    BenchmarkCluster.Node($"node-{n:d5}", n % every == 0 ? [0, 1, 2, 3, 4, 5, 6, 7] : [8, 1, 2, 3, 4, 5, 6, 7], random)
                )
        );
    }

    [Benchmark]
    public Decision Decide() => Allocator.Decide(_cluster, _claim);
}
