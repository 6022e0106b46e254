using System.Collections.Immutable;

namespace PciOperator.Core;

/// <summary>What all nodes offer: an immutable snapshot. Changing one node copies that node's page, not the cluster.</summary>
public sealed class ClusterInventory
{
    private readonly NodePage[] _pages;

    private ClusterInventory(NodePage[] pages, DeviceClassTable classes, int count) => (_pages, Classes, Count) = (pages, classes, count);

    /// <summary>No nodes.</summary>
    public static ClusterInventory Empty => new([], new DeviceClassTable(), 0);

    /// <summary>How many nodes.</summary>
    public int Count { get; }

    /// <summary>The nodes by name.</summary>
    public IEnumerable<NodeInventory> Nodes => _pages.SelectMany(p => p.Nodes);

    internal ReadOnlySpan<NodePage> Pages => _pages;

    /// <summary>All classes of devices seen, shared by a snapshot and its successors.</summary>
    internal DeviceClassTable Classes { get; }

    /// <summary>A snapshot of these nodes.</summary>
    /// <exception cref="ArgumentException">Two nodes have one name.</exception>
    public static ClusterInventory Of(IEnumerable<NodeInventory> nodes)
    {
        ArgumentNullException.ThrowIfNull(nodes);
        NodeInventory[] sorted = [.. nodes];
        Array.Sort(sorted, (a, b) => string.CompareOrdinal(a.Name, b.Name));
        for (int i = 1; i < sorted.Length; i++)
        {
            if (sorted[i - 1].Name == sorted[i].Name)
                throw new ArgumentException($"Two nodes are named {sorted[i].Name}.", nameof(nodes));
        }

        var classes = new DeviceClassTable();
        return new ClusterInventory([.. sorted.Chunk(NodePage.Most * 3 / 4).Select(c => NodePage.Of(c, classes))], classes, sorted.Length);
    }

    /// <summary>A node, or null.</summary>
    public NodeInventory? Find(string name)
    {
        if (_pages.Length == 0)
            return null;
        NodePage page = _pages[PageOf(name)];
        int at = page.IndexOf(name);
        return at >= 0 ? page.Nodes[at] : null;
    }

    /// <summary>The snapshot with this node added or replaced.</summary>
    public ClusterInventory With(NodeInventory node)
    {
        ArgumentNullException.ThrowIfNull(node);
        if (_pages.Length == 0)
            return new ClusterInventory([NodePage.Of([node], Classes)], Classes, 1);
        int at = PageOf(node.Name);
        NodePage page = _pages[at];
        bool known = page.IndexOf(node.Name) >= 0;
        return new ClusterInventory(Replace(at, page.With(node, Classes)), Classes, known ? Count : Count + 1);
    }

    /// <summary>The snapshot without this node; the same one when it is not there.</summary>
    public ClusterInventory Without(string name)
    {
        if (Find(name) is null)
            return this;
        int at = PageOf(name);
        NodePage? rest = _pages[at].Without(name, Classes);
        return new ClusterInventory(Replace(at, rest is null ? [] : [rest]), Classes, Count - 1);
    }

    private NodePage[] Replace(int at, ReadOnlySpan<NodePage> by) => [.. _pages.AsSpan(0, at), .. by, .. _pages.AsSpan(at + 1)];

    // The last page whose first name is not after this one.
    private int PageOf(string name)
    {
        int low = 0;
        int high = _pages.Length - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if (string.CompareOrdinal(_pages[middle].Nodes[0].Name, name) <= 0)
                low = middle;
            else
                high = middle - 1;
        }

        return low;
    }
}

/// <summary>Numbers the classes of devices of a cluster; only ever added to, so numbers stay right in every snapshot.</summary>
internal sealed class DeviceClassTable
{
    private readonly Lock _gate = new();
    private ImmutableDictionary<DeviceClass, int> _numbers = ImmutableDictionary<DeviceClass, int>.Empty;
    private volatile DeviceClass[] _all = [];

    /// <summary>The classes by number; more may follow later.</summary>
    public DeviceClass[] All => _all;

    public int NumberOf(DeviceClass c)
    {
        if (_numbers.TryGetValue(c, out int number))
            return number;
        lock (_gate)
        {
            if (_numbers.TryGetValue(c, out number))
                return number;
            number = _all.Length;
            _all = [.. _all, c];
            _numbers = _numbers.Add(c, number);
            return number;
        }
    }
}
