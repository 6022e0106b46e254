using System.Runtime.InteropServices;

namespace PciOperator.Core;

/// <summary>A set of free devices of a node that are the same to every claim, as far as whether it can be served goes.</summary>
/// <param name="Class">Index of the device class in the shape's list.</param>
/// <param name="Numa">Index of the NUMA node in the shape's list; -1: unknown.</param>
/// <param name="Own">The card whose mode must be "PF" for these devices; -1: none.</param>
/// <param name="Parent">The card whose mode must be "VFs" for these devices; -1: none.</param>
/// <param name="Free">How many.</param>
/// <param name="Cost">What taking one spoils: companions that go along, a whole PF that it breaks up. Small is better.</param>
internal readonly record struct Bucket(int Class, int Numa, int Own, int Parent, int Free, int Cost);

/// <summary>
/// What a node offers, as compact arrays without names and addresses: all that decides whether a claim fits. Two nodes
/// with equal shapes give equal answers.
/// </summary>
/// <remarks>
/// A "card" here is an IOMMU group with a PF that has free VFs in other groups. It is in one of two modes: with any
/// device of the group taken, the PF goes along and its VFs are gone; with any of the VFs taken, the group is out.
/// </remarks>
internal sealed class NodeShape
{
    private NodeShape(
        DeviceClass[] classes,
        int[] numaNodes,
        int[] sockets,
        bool socketUnknown,
        Bucket[] buckets,
        int[][] members,
        int cards,
        int free
    )
    {
        (Classes, NumaNodes, Sockets, SocketUnknown, Buckets, Members, Cards, Free) = (
            classes,
            numaNodes,
            sockets,
            socketUnknown,
            buckets,
            members,
            cards,
            free
        );
        var hash = new HashCode();
        hash.AddBytes(MemoryMarshal.AsBytes(buckets.AsSpan()));
        hash.AddBytes(MemoryMarshal.AsBytes(numaNodes.AsSpan()));
        hash.AddBytes(MemoryMarshal.AsBytes(sockets.AsSpan()));
        foreach (DeviceClass c in classes)
            hash.Add(c);
        Hash = hash.ToHashCode();
    }

    /// <summary>Classes of all devices that a spec matches, free or not, in order of key.</summary>
    public DeviceClass[] Classes { get; }

    /// <summary>NUMA nodes, ascending.</summary>
    public int[] NumaNodes { get; }

    /// <summary>Their sockets; -1: unknown.</summary>
    public int[] Sockets { get; }

    /// <summary>Whether any node's socket is unknown: then the socket policy is no wider than the node.</summary>
    public bool SocketUnknown { get; }

    /// <summary>The buckets, cheapest first.</summary>
    public Bucket[] Buckets { get; }

    /// <summary>The devices (indexes into the node's list) of each bucket, by address.</summary>
    public int[][] Members { get; }

    /// <summary>How many cards.</summary>
    public int Cards { get; }

    /// <summary>All free devices.</summary>
    public int Free { get; }

    /// <summary>Equal for equal shapes.</summary>
    public int Hash { get; }

    public static NodeShape Build(
        IReadOnlyList<NodeDevice> devices,
        Dictionary<PciAddress, int> index,
        Offers offers,
        IReadOnlyDictionary<int, int?> socketOf
    )
    {
        int[] numaNodes = [.. socketOf.Keys.Order()];
        int[] sockets = [.. numaNodes.Select(n => socketOf[n] ?? -1)];
        var classOf = new DeviceClass?[devices.Count];
        var distinct = new Dictionary<DeviceClass, DeviceClass>();
        for (int i = 0; i < devices.Count; i++)
        {
            if (devices[i].Tags is not { } tags || devices[i].Function.IsBridge)
                continue;
            var c = new DeviceClass(devices[i].Function, tags);
            if (!distinct.TryGetValue(c, out DeviceClass? known))
                distinct[c] = known = c;
            classOf[i] = known;
        }

        DeviceClass[] classes = [.. distinct.Keys.OrderBy(c => c.Key, StringComparer.Ordinal)];
        var classIndex = new Dictionary<DeviceClass, int>();
        for (int i = 0; i < classes.Length; i++)
            classIndex[classes[i]] = i;

        // A card is known by its group; numbered by first device.
        var cardOfGroup = new Dictionary<int, int>();
        var freeVfs = new Dictionary<PciAddress, int>();
        var owned = new HashSet<PciAddress>();
        int free = 0;
        for (int i = 0; i < devices.Count; i++)
        {
            PciFunction f = devices[i].Function;
            if (f is { IsVirtual: true, ParentAddress: { } parent })
            {
                if (devices[i].Owner is not null)
                    owned.Add(parent);
                else if (offers.Reasons[i] is null)
                    freeVfs[parent] = freeVfs.GetValueOrDefault(parent) + 1;
            }
        }

        for (int i = 0; i < devices.Count; i++)
        {
            if (offers.Reasons[i] is not null)
                continue;
            free++;
            int group = devices[i].Function.IommuGroup!.Value;
            foreach (int m in offers.Groups[group])
            {
                if (freeVfs.ContainsKey(devices[m].Function.Address) && !cardOfGroup.ContainsKey(group))
                    cardOfGroup[group] = cardOfGroup.Count;
            }
        }

        int CostOf(int i)
        {
            PciFunction f = devices[i].Function;
            int companions = 0;
            foreach (int m in offers.Groups[f.IommuGroup!.Value])
            {
                if (m != i)
                    companions++;
            }

            int spoiled =
                f.Type == DeviceType.Pf ? Math.Min(freeVfs.GetValueOrDefault(f.Address), 7)
                : f is { IsVirtual: true, ParentAddress: { } pf }
                && index.TryGetValue(pf, out int p)
                && !owned.Contains(pf)
                && offers.Reasons[p] is null
                    ? 8
                : 0;
            return (companions * 16) + spoiled;
        }

        int CardOf(PciAddress address) =>
            index.TryGetValue(address, out int i) && devices[i].Function.IommuGroup is { } group
                ? cardOfGroup.GetValueOrDefault(group, -1)
                : -1;

        var members = new Dictionary<Bucket, List<int>>();
        for (int i = 0; i < devices.Count; i++)
        {
            if (offers.Reasons[i] is not null)
                continue;
            PciFunction f = devices[i].Function;
            var key = new Bucket(
                classIndex[classOf[i]!],
                f.NumaNode is { } n ? Array.BinarySearch(numaNodes, n) : -1,
                cardOfGroup.GetValueOrDefault(f.IommuGroup!.Value, -1),
                f is { IsVirtual: true, ParentAddress: { } pf } ? CardOf(pf) : -1,
                0,
                CostOf(i)
            );
            if (!members.TryGetValue(key, out List<int>? list))
                members[key] = list = [];
            list.Add(i);
        }

        (Bucket Bucket, int[] Members)[] sorted =
        [
            .. members
                .Select(p => (Bucket: p.Key with { Free = p.Value.Count }, Members: p.Value.ToArray()))
                .OrderBy(p => p.Bucket.Cost)
                .ThenBy(p => p.Bucket.Free)
                .ThenBy(p => p.Members[0]),
        ];
        return new NodeShape(
            classes,
            numaNodes,
            sockets,
            sockets.Contains(-1),
            [.. sorted.Select(p => p.Bucket)],
            [.. sorted.Select(p => p.Members)],
            cardOfGroup.Count,
            free
        );
    }

    /// <summary>Whether the two give equal answers to every claim.</summary>
    public bool SameAs(NodeShape other) =>
        ReferenceEquals(this, other)
        || (
            Hash == other.Hash
            && Buckets.AsSpan().SequenceEqual(other.Buckets)
            && NumaNodes.AsSpan().SequenceEqual(other.NumaNodes)
            && Sockets.AsSpan().SequenceEqual(other.Sockets)
            && Classes.AsSpan().SequenceEqual(other.Classes)
        );
}
