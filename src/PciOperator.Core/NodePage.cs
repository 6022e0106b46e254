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
            Fill(i);
    }

    private NodePage(NodePage old, int at, NodeInventory node, int[] numbers)
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
        if (!HasColumnsFor(node.Shape, numbers))
            return [new NodePage([.. Nodes.AsSpan(0, at), node, .. Nodes.AsSpan(at + 1)], table)];
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

    private bool HasColumnsFor(NodeShape shape, int[] numbers)
    {
        foreach (int number in numbers)
        {
            if (Array.BinarySearch(Classes, number) < 0)
                return false;
        }
        foreach (ref readonly Bucket b in shape.Buckets.AsSpan())
        {
            if (ColumnOf(shape, b, numbers) < 0)
                return false;
        }
        return true;
    }

    private int ColumnOf(NodeShape shape, in Bucket b, int[] numbers)
    {
        int c = Array.BinarySearch(Classes, numbers[b.Class]);
        Place place = Place.Of(shape, b);
        for (int column = Starts[c]; column < Starts[c + 1]; column++)
        {
            if (Places[PlaceOf[column]] == place)
                return column;
        }
        return -1;
    }

    private void Fill(int at)
    {
        int[] numbers = ClassNumbers[at];
        NodeShape shape = Nodes[at].Shape;
        Totals[at] = (ushort)Math.Min(ushort.MaxValue, shape.Free);
        if (shape.Cards > 0)
            WithCards |= 1ul << at;
        foreach (int number in numbers)
            Present[Array.BinarySearch(Classes, number)] |= 1ul << at;
        foreach (ref readonly Bucket b in shape.Buckets.AsSpan())
        {
            ref ushort free = ref Free[(ColumnOf(shape, b, numbers) * Most) + at];
            free = (ushort)Math.Min(ushort.MaxValue, free + b.Free);
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
        b.Numa < 0 ? new Place(-1, -1)
        : new Place(shape.NumaNodes[b.Numa], shape.SocketUnknown ? -2 - shape.NumaNodes[b.Numa] : shape.Sockets[b.Numa]);

    public int CompareTo(Place other) => Numa != other.Numa ? Numa.CompareTo(other.Numa) : Socket.CompareTo(other.Socket);
}
