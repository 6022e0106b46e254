namespace PciOperator.Core;

/// <summary>Turns a solved shape into devices: which ones of each bucket, for which request, and what goes along.</summary>
internal static class DevicePicker
{
    public static NodeAllocation Pick(NodeInventory node, ClaimPlan plan, in NodeSolver solver, Fit fit)
    {
        List<(int Device, int Mask)> picked = Choose(node, solver);
        if (plan.Columns.Length > 1 || picked.Count > 1)
            picked = PackGroups(node, plan, solver, picked);
        int[] column = Assign(plan, picked);

        var served = new Dictionary<int, string>(picked.Count);
        for (int c = 0; c < plan.Columns.Length; c++)
        {
            DeviceRequest[] requests = plan.Columns[c].Requests;
            int request = 0;
            int given = 0;
            for (int i = 0; i < picked.Count; i++)
            {
                if (column[i] != c)
                    continue;
                while (given == requests[request].Count)
                    (request, given) = (request + 1, 0);
                served[picked[i].Device] = requests[request].Name;
                given++;
            }
        }

        return new NodeAllocation
        {
            Node = node.Name,
            Devices = WithCompanions(node, served),
            NumaNodes = NumaNodes(node, served),
            NumaPreferenceMet = fit.PreferenceMet,
        };
    }

    // Within a bucket all devices are as good; those whose group goes anyway first.
    private static List<(int Device, int Mask)> Choose(NodeInventory node, in NodeSolver solver)
    {
        var picked = new List<(int Device, int Mask)>();
        NodeShape shape = node.Shape;
        HashSet<int>? groups = null;
        foreach (bool all in (ReadOnlySpan<bool>)[true, false])
        {
            foreach (int b in solver.Order)
            {
                int take = solver.Taken[b];
                int[] members = shape.Members[b];
                if (take == 0 || (take == members.Length) != all)
                    continue;
                int mask = solver.BucketMasks[b];
                // Devices that go alone have no group to share.
                if (shape.Buckets[b].Cost < 16)
                {
                    for (int i = 0; i < take; i++)
                        picked.Add((members[i], mask));
                    continue;
                }

                groups ??= [];
                var open = new List<int>(members);
                for (; take > 0; take--)
                {
                    int next = Math.Max(open.FindIndex(d => groups.Contains(Group(node, d))), 0);
                    picked.Add((open[next], mask));
                    groups.Add(Group(node, open[next]));
                    open.RemoveAt(next);
                }
            }
        }

        picked.Sort();
        return picked;
    }

    // Leaves out every group that the companions in the others can stand in for.
    private static List<(int Device, int Mask)> PackGroups(
        NodeInventory node,
        ClaimPlan plan,
        in NodeSolver solver,
        List<(int Device, int Mask)> picked
    )
    {
        SortedSet<int> groups = [.. picked.Select(p => Group(node, p.Device))];
        if (groups.All(g => node.Groups[g].Count == 1))
            return picked;
        var maskOf = new Dictionary<int, int>();
        for (int b = 0; b < solver.BucketMasks.Length; b++)
        {
            foreach (int device in node.Shape.Members[b])
                maskOf[device] = solver.BucketMasks[b];
        }

        List<int> universe = [.. maskOf.Where(p => p.Value != 0 && groups.Contains(Group(node, p.Key))).Select(p => p.Key).Order()];
        // Nothing farther from the guest than what was picked.
        HashSet<int?> places = [.. picked.Select(p => node.Devices[p.Device].Function.NumaNode)];
        universe.RemoveAll(d => !places.Contains(node.Devices[d].Function.NumaNode));
        bool changed = false;
        foreach (int group in groups.OrderByDescending(g => node.Groups[g].Count).ThenBy(g => g).ToArray())
        {
            List<int> rest = [.. universe.Where(d => Group(node, d) != group)];
            if (Enough(plan, rest, maskOf))
            {
                universe = rest;
                changed = true;
            }
        }

        if (!changed)
            return picked;
        var chosen = new List<(int Device, int Mask)>();
        int[] sums = new int[plan.Sets];
        foreach (int device in universe)
        {
            int mask = maskOf[device];
            bool fits = true;
            for (int set = mask; set < plan.Sets; set = (set + 1) | mask)
                fits &= sums[set] < plan.Demand[set];
            if (!fits)
                continue;
            for (int set = mask; set < plan.Sets; set = (set + 1) | mask)
                sums[set]++;
            chosen.Add((device, mask));
        }

        return chosen;
    }

    private static bool Enough(ClaimPlan plan, List<int> devices, Dictionary<int, int> maskOf)
    {
        int[] counts = new int[plan.Sets];
        foreach (int device in devices)
            counts[maskOf[device]]++;
        int[] supply = new int[plan.Sets];
        Hall.Supply(counts, supply);
        return Hall.Met(supply, plan.Demand);
    }

    // Each device to one of the columns that it may serve, by augmenting paths; the columns' counts are met exactly.
    private static int[] Assign(ClaimPlan plan, List<(int Device, int Mask)> picked)
    {
        int[] column = new int[picked.Count];
        if (plan.Columns.Length == 1)
            return column;
        Array.Fill(column, -1);
        int[] left = new int[plan.Columns.Length];
        for (int c = 0; c < left.Length; c++)
            left[c] = plan.Columns[c].Count;
        int seen = 0;
        for (int i = 0; i < picked.Count; i++)
        {
            seen = 0;
            if (!Place(i))
                throw new InvalidOperationException("The devices that were picked can't be matched to the requests.");
        }

        return column;

        bool Place(int device)
        {
            int mask = picked[device].Mask;
            for (int c = 0; c < left.Length; c++)
            {
                if ((mask & ~seen & (1 << c)) != 0 && left[c] > 0)
                {
                    left[c]--;
                    column[device] = c;
                    return true;
                }
            }

            for (int c = 0; c < left.Length; c++)
            {
                if ((mask & ~seen & (1 << c)) == 0)
                    continue;
                seen |= 1 << c;
                for (int other = 0; other < column.Length; other++)
                {
                    if (column[other] == c && Place(other))
                    {
                        column[device] = c;
                        return true;
                    }
                }
            }

            return false;
        }
    }

    private static List<AllocatedDevice> WithCompanions(NodeInventory node, Dictionary<int, string> served)
    {
        var all = new List<int>(served.Count);
        HashSet<int>? seen = null;
        HashSet<PciAddress>? taken = null;
        foreach (int device in served.Keys)
        {
            int group = Group(node, device);
            List<int> members = node.Groups[group];
            if (members.Count == 1)
            {
                all.Add(device);
                continue;
            }

            seen ??= [];
            if (seen.Add(group))
                all.AddRange(members);
        }

        if (seen is not null)
        {
            // Of several groups one may have the PF, and another its VF.
            taken = [.. all.Select(d => node.Devices[d].Function.Address)];
            all.RemoveAll(d => !WholeGroup.IsMember(node.Devices[d].Function, taken.Contains));
        }

        all.Sort();
        var result = new List<AllocatedDevice>(all.Count);
        foreach (int device in all)
        {
            bool serves = served.TryGetValue(device, out string? request);
            result.Add(new AllocatedDevice(node.Devices[device].Function.Address, request ?? "", !serves));
        }

        return result;
    }

    private static int[] NumaNodes(NodeInventory node, Dictionary<int, string> served)
    {
        Span<int> nodes = stackalloc int[16];
        int count = 0;
        HashSet<int>? many = null;
        foreach (int device in served.Keys)
        {
            if (node.Devices[device].Function.NumaNode is not { } n)
                continue;
            if (many is not null)
            {
                many.Add(n);
            }
            else if (!nodes[..count].Contains(n))
            {
                if (count == nodes.Length)
                    many = [.. nodes, n];
                else
                    nodes[count++] = n;
            }
        }

        int[] result = many is not null ? [.. many] : nodes[..count].ToArray();
        Array.Sort(result);
        return result;
    }

    private static int Group(NodeInventory node, int device) => node.Devices[device].Function.IommuGroup!.Value;
}
