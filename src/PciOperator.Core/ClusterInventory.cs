using System.Collections.Immutable;

namespace PciOperator.Core;

/// <summary>What all nodes offer: an immutable snapshot.</summary>
public sealed class ClusterInventory
{
    private readonly ImmutableSortedDictionary<string, NodeInventory> nodes;

    private ClusterInventory(ImmutableSortedDictionary<string, NodeInventory> nodes) => this.nodes = nodes;

    /// <summary>No nodes.</summary>
    public static ClusterInventory Empty { get; } =
        new(ImmutableSortedDictionary<string, NodeInventory>.Empty.WithComparers(StringComparer.Ordinal));

    /// <summary>How many nodes.</summary>
    public int Count => nodes.Count;

    /// <summary>The nodes by name.</summary>
    public IEnumerable<NodeInventory> Nodes => nodes.Values;

    /// <summary>A node, or null.</summary>
    public NodeInventory? Find(string name) => nodes.GetValueOrDefault(name);

    /// <summary>The snapshot with this node added or replaced.</summary>
    public ClusterInventory With(NodeInventory node)
    {
        ArgumentNullException.ThrowIfNull(node);
        return new(nodes.SetItem(node.Name, node));
    }

    /// <summary>The snapshot without this node.</summary>
    public ClusterInventory Without(string name) => new(nodes.Remove(name));
}
