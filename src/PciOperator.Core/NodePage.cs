namespace PciOperator.Core;

/// <summary>
/// Up to 64 nodes, by name, with their free devices by class as columns: what a claim's first look at a node needs, next
/// to each other in memory.
/// </summary>
internal sealed class NodePage
{
    /// <summary>Nodes of a page: the bits of a word.</summary>
    public const int Most = 64;

    private NodePage(NodeInventory[] nodes, DeviceClassTable table)
    {
        Nodes = nodes;
        ClassNumbers = new int[nodes.Length][];
        var numbers = new SortedSet<int>();
        for (int i = 0; i < nodes.Length; i++)
            numbers.UnionWith(ClassNumbers[i] = NumbersOf(nodes[i], table));
        Classes = [.. numbers];
        Present = new ulong[Classes.Length];
        Free = new ushort[Classes.Length * Most];
        Totals = new ushort[Most];
        for (int i = 0; i < nodes.Length; i++)
            Fill(i);
    }

    private NodePage(NodePage old, int at, NodeInventory node, int[] numbers)
    {
        Nodes = [.. old.Nodes];
        Nodes[at] = node;
        ClassNumbers = [.. old.ClassNumbers];
        ClassNumbers[at] = numbers;
        Classes = old.Classes;
        Present = [.. old.Present];
        Free = [.. old.Free];
        Totals = [.. old.Totals];
        for (int c = 0; c < Classes.Length; c++)
        {
            Present[c] &= ~(1ul << at);
            Free[(c * Most) + at] = 0;
        }
        Fill(at);
    }

    /// <summary>The nodes by name.</summary>
    public NodeInventory[] Nodes { get; }

    /// <summary>For each node, the cluster's numbers of its shape's classes.</summary>
    public int[][] ClassNumbers { get; }

    /// <summary>The numbers of all classes on the page, ascending.</summary>
    public int[] Classes { get; }

    /// <summary>For each class, the nodes (bits) that have such a device, free or not.</summary>
    public ulong[] Present { get; }

    /// <summary>For each class, the number of free devices of each of 64 nodes.</summary>
    public ushort[] Free { get; }

    /// <summary>All free devices of each node.</summary>
    public ushort[] Totals { get; }

    public static NodePage Of(ReadOnlySpan<NodeInventory> nodes, DeviceClassTable table) => new(nodes.ToArray(), table);

    public int IndexOf(string name)
    {
        int low = 0;
        int high = Nodes.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            int order = string.CompareOrdinal(Nodes[middle].Name, name);
            if (order == 0)
                return middle;
            if (order < 0)
                low = middle + 1;
            else
                high = middle - 1;
        }
        return ~low;
    }

    /// <summary>The page with the node added or replaced: two pages when one is full.</summary>
    public NodePage[] With(NodeInventory node, DeviceClassTable table)
    {
        int at = IndexOf(node.Name);
        if (at < 0)
        {
            NodeInventory[] more = [.. Nodes.AsSpan(0, ~at), node, .. Nodes.AsSpan(~at)];
            int half = more.Length / 2;
            return more.Length <= Most
                ? [new NodePage(more, table)]
                : [new NodePage(more[..half], table), new NodePage(more[half..], table)];
        }
        int[] numbers = NumbersOf(node, table);
        foreach (int number in numbers)
        {
            if (Array.BinarySearch(Classes, number) < 0)
                return [new NodePage([.. Nodes.AsSpan(0, at), node, .. Nodes.AsSpan(at + 1)], table)];
        }
        return [new NodePage(this, at, node, numbers)];
    }

    public NodePage? Without(string name, DeviceClassTable table)
    {
        int at = IndexOf(name);
        return Nodes.Length == 1 ? null : new NodePage([.. Nodes.AsSpan(0, at), .. Nodes.AsSpan(at + 1)], table);
    }

    private static int[] NumbersOf(NodeInventory node, DeviceClassTable table)
    {
        DeviceClass[] classes = node.Shape.Classes;
        var numbers = new int[classes.Length];
        for (int i = 0; i < classes.Length; i++)
            numbers[i] = table.NumberOf(classes[i]);
        return numbers;
    }

    private void Fill(int at)
    {
        int[] numbers = ClassNumbers[at];
        Totals[at] = (ushort)Math.Min(ushort.MaxValue, Nodes[at].Free);
        foreach (int number in numbers)
            Present[Array.BinarySearch(Classes, number)] |= 1ul << at;
        foreach (Bucket b in Nodes[at].Shape.Buckets)
        {
            int c = Array.BinarySearch(Classes, numbers[b.Class]);
            Free[(c * Most) + at] = (ushort)Math.Min(ushort.MaxValue, Free[(c * Most) + at] + b.Free);
        }
    }
}
