namespace PciOperator.Core;

/// <summary>
/// Up to 64 nodes, by name, with their free devices by class and place as columns: what a claim's first look at a node needs,
/// next to each other in memory.
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
        var columns = new SortedSet<(int Class, Place Place)>();
        for (int i = 0; i < nodes.Length; i++)
        {
            foreach (ref readonly Bucket b in nodes[i].Shape.Buckets.AsSpan())
                columns.Add((Array.BinarySearch(Classes, ClassNumbers[i][b.Class]), Place.Of(nodes[i].Shape, b)));
        }

        Places = [.. columns.Select(c => c.Place).Distinct().Order()];
        PlaceOf = [.. columns.Select(c => Array.BinarySearch(Places, c.Place))];
        Starts = new int[Classes.Length + 1];
        foreach ((int c, _) in columns)
            Starts[c + 1]++;
        for (int c = 1; c < Starts.Length; c++)
            Starts[c] += Starts[c - 1];
        Present = new ulong[Classes.Length];
        Free = new ushort[PlaceOf.Length * Most];
        Totals = new ushort[Most];
        for (int i = 0; i < nodes.Length; i++)
            Fill(i, ColumnsOf(nodes[i].Shape, ClassNumbers[i])!);
    }

    private NodePage(NodePage old, int at, NodeInventory node, int[] numbers, int[] columns)
    {
        Nodes = [.. old.Nodes];
        Nodes[at] = node;
        ClassNumbers = [.. old.ClassNumbers];
        ClassNumbers[at] = numbers;
        (Classes, Places, PlaceOf, Starts) = (old.Classes, old.Places, old.PlaceOf, old.Starts);
        Present = [.. old.Present];
        Free = [.. old.Free];
        Totals = [.. old.Totals];
        WithCards = old.WithCards & ~(1ul << at);
        foreach (ref ulong present in Present.AsSpan())
            present &= ~(1ul << at);
        for (int column = 0; column < PlaceOf.Length; column++)
            Free[(column * Most) + at] = 0;
        Fill(at, columns);
    }

    /// <summary>The nodes by name.</summary>
    public NodeInventory[] Nodes { get; }

    /// <summary>For each node, the cluster's numbers of its shape's classes.</summary>
    public int[][] ClassNumbers { get; }

    /// <summary>The numbers of all classes on the page, ascending.</summary>
    public int[] Classes { get; }

    /// <summary>For each class, the nodes (bits) that have such a device, free or not.</summary>
    public ulong[] Present { get; }

    /// <summary>All places on the page that free devices are at.</summary>
    public Place[] Places { get; }

    /// <summary>For each column, its place's index. The columns of class k are those from Starts[k] to before Starts[k + 1].</summary>
    public int[] PlaceOf { get; }

    /// <summary>For each class, its first column; at the end the number of columns.</summary>
    public int[] Starts { get; }

    /// <summary>For each column, the number of free devices of each of 64 nodes.</summary>
    public ushort[] Free { get; }

    /// <summary>The nodes (bits) with cards, whose PFs and VFs exclude each other: sums alone decide nothing for them.</summary>
    public ulong WithCards { get; private set; }

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
        return ColumnsOf(node.Shape, numbers) is { } columns
            ? [new NodePage(this, at, node, numbers, columns)]
            : [new NodePage([.. Nodes.AsSpan(0, at), node, .. Nodes.AsSpan(at + 1)], table)];
    }

    public NodePage? Without(string name, DeviceClassTable table)
    {
        int at = IndexOf(name);
        return Nodes.Length == 1 ? null : new NodePage([.. Nodes.AsSpan(0, at), .. Nodes.AsSpan(at + 1)], table);
    }

    private static int[] NumbersOf(NodeInventory node, DeviceClassTable table)
    {
        DeviceClass[] classes = node.Shape.Classes;
        int[] numbers = new int[classes.Length];
        for (int i = 0; i < classes.Length; i++)
            numbers[i] = table.NumberOf(classes[i]);
        return numbers;
    }

    // For each bucket its column; null when the page has none for one of its buckets or classes.
    private int[]? ColumnsOf(NodeShape shape, int[] numbers)
    {
        foreach (int number in numbers)
        {
            if (Array.BinarySearch(Classes, number) < 0)
                return null;
        }

        int[] columns = new int[shape.Buckets.Length];
        for (int i = 0; i < columns.Length; i++)
        {
            int c = Array.BinarySearch(Classes, numbers[shape.Buckets[i].Class]);
            int place = Array.IndexOf(Places, Place.Of(shape, shape.Buckets[i]));
            columns[i] = place < 0 ? -1 : Array.IndexOf(PlaceOf, place, Starts[c], Starts[c + 1] - Starts[c]);
            if (columns[i] < 0)
                return null;
        }

        return columns;
    }

    private void Fill(int at, int[] columns)
    {
        NodeShape shape = Nodes[at].Shape;
        Totals[at] = (ushort)Math.Min(ushort.MaxValue, shape.Free);
        if (shape.Cards > 0)
            WithCards |= 1ul << at;
        foreach (int number in ClassNumbers[at])
            Present[Array.BinarySearch(Classes, number)] |= 1ul << at;
        for (int i = 0; i < columns.Length; i++)
        {
            ref ushort free = ref Free[(columns[i] * Most) + at];
            free = (ushort)Math.Min(ushort.MaxValue, free + shape.Buckets[i].Free);
        }
    }
}

/// <summary>Where a device is, as NUMA policies see it.</summary>
/// <param name="Numa">The NUMA node; -1: unknown.</param>
/// <param name="Socket">
/// The socket; on a node that doesn't know all its sockets, where the socket policy is no wider than the NUMA node, a number of
/// the NUMA node's own, below 0.
/// </param>
internal readonly record struct Place(int Numa, int Socket) : IComparable<Place>
{
    public static Place Of(NodeShape shape, in Bucket b) =>
        b.Numa < 0
            ? new Place(-1, -1)
            : new Place(shape.NumaNodes[b.Numa], shape.SocketUnknown ? -2 - shape.NumaNodes[b.Numa] : shape.Sockets[b.Numa]);

    public int CompareTo(Place other) => Numa != other.Numa ? Numa.CompareTo(other.Numa) : Socket.CompareTo(other.Socket);
}
