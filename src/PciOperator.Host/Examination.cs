using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>The devices of a request as the host shows them now, known to be the ones that were asked for.</summary>
internal sealed record Examination(IReadOnlyList<HostFunction> Devices, IReadOnlyList<HostFunction> Vfs, HostUse Use)
{
    /// <summary>Reads the devices and compares them with the request: identity, and groups whole.</summary>
    /// <param name="request">What was asked for.</param>
    /// <param name="files">The host.</param>
    /// <param name="inUse">The devices are handed out already.</param>
    /// <exception cref="Refusal">DeviceGone, DriftDetected, NoIommuGroup, GroupNotViable or InvalidRequest.</exception>
    public static Examination Of(AssignmentRequest request, IHostFileSystem files, bool inUse)
    {
        var inventory = new Inventory(files);
        var use = HostUse.Read(files);
        Dictionary<PciAddress, HostFunction> found = inventory.ReadNow(request.Devices.Select(d => d.Address), use).ToDictionary(f => f.Address);
        foreach (AssignmentDevice device in request.Devices)
        {
            try
            {
                CheckIdentity(device, found.GetValueOrDefault(device.Address), use, files, inUse);
            }
            catch (Refusal drift) when (PassthroughHost.IsDrift(drift.Reason) && Inventory.IsSerial(device.StableId))
            {
                string elsewhere = DeviceIdentity.Elsewhere(device.Address, KnownDevice.Of(device), inventory.ReadAll(use, fresh: true, []));
                throw elsewhere.Length == 0 ? drift : new Refusal(drift.Reason, drift.Message + elsewhere);
            }
        }

        CheckGroups(found, inventory, use);
        var vfs = new List<HostFunction>();
        foreach (HostFunction pf in found.Values.Where(f => f.Function.Type == DeviceType.Pf))
        {
            List<PciAddress> addresses = inventory.VfsOf(pf.Address);
            if (addresses.Find(found.ContainsKey) is var own && found.ContainsKey(own))
                throw new Refusal(HoldingReasons.InvalidRequest, $"The assignment names the PF {pf.Address} and its VF {own}: taking a PF removes its VFs.");
            vfs.AddRange(inventory.ReadNow(addresses, use));
        }

        return new Examination([.. request.Devices.Select(d => found[d.Address])], vfs, use);
    }

    /// <summary>All guards on all that would be taken: the devices and the VFs that go with a PF.</summary>
    /// <param name="files">The host.</param>
    /// <param name="ours">Whether a function is already bound for this claim.</param>
    /// <exception cref="Refusal">GuardRefused, ForeignVfioBinding, NotBound or InUse.</exception>
    /// <param name="administrators">The drivers that a function of the administrator's may be on; null: it is ours to bind.</param>
    public void CheckGuards(IHostFileSystem files, Func<HostFunction, bool> ours, Func<HostFunction, BindDriver?> administrators)
    {
        foreach (HostFunction f in Devices.Concat(Vfs))
        {
            BindDriver? bound = administrators(f);
            string wanted = bound == BindDriver.PciStub ? VfioDrivers.PciStub : VfioDrivers.VfioPci;
            if (bound is not null && f.Driver != wanted && !(wanted == VfioDrivers.VfioPci && VfioDrivers.IsVfio(f.Driver)))
                throw new Refusal(HoldingReasons.NotBound, $"{f.Address} is on {f.Driver ?? "no driver"}, and its spec says managed: false: bind it to {wanted} first (driverctl set-override {f.Address} {wanted}).");
            if (Guards.Check(f, Use, ours(f) || bound is not null) is { } refusal)
                throw new Refusal(refusal.Guard == Guards.ForeignVfioBinding ? HoldingReasons.ForeignVfioBinding : HoldingReasons.GuardRefused, refusal.Sentence);
        }

        CheckOpen(files, [.. Devices.Concat(Vfs).Where(f => !ours(f) && administrators(f) is null)]);
    }

    /// <summary>What only the moment of taking shows: claimed block devices and open files.</summary>
    private void CheckOpen(IHostFileSystem files, List<HostFunction> taken)
    {
        foreach (HostFunction f in taken)
        {
            foreach (Disk disk in Use.DisksOf(f.Address))
            {
                bool? claimed = files.IsClaimed($"/dev/{disk.Name}");
                if (claimed != false)
                {
                    throw new Refusal(HoldingReasons.GuardRefused, claimed == true
                        ? $"{f.Address} carries {disk.Name}, which the kernel holds for somebody (a mount in another namespace, LVM, RAID, ZFS, …)."
                        : $"{f.Address} carries {disk.Name}, and /dev/{disk.Name} can't be opened to see whether it is in use: the agent needs the host's /dev.");
                }
            }
        }

        var open = new OpenFiles(files);
        var nodes = new Dictionary<DeviceNumber, string>();
        foreach (KeyValuePair<DeviceNumber, string> node in taken.SelectMany(f => open.NodesOf(f.Address))
                     .Concat(taken.SelectMany(f => Use.DisksOf(f.Address)).Select(d => KeyValuePair.Create(d.Number, d.Name)))
                     .Concat(Devices.SelectMany(f => open.VfioNodesOf(f.Address, f.Function.IommuGroup))))
            nodes[node.Key] = node.Value;
        if (open.FindUser(nodes, [.. taken.Select(f => f.Address)]) is { } user)
            throw new Refusal(HoldingReasons.GuardRefused, $"A device of {Devices[0].Address} is in use: {user}.");
    }

    private static void CheckIdentity(AssignmentDevice device, HostFunction? found, HostUse use, IHostFileSystem files, bool inUse)
    {
        if (found is null)
            throw new Refusal(HoldingReasons.DeviceGone, $"There is no device at {device.Address}.");
        PciFunction f = found.Function;
        if (DeviceIdentity.Difference(device.Address, KnownDevice.Of(device), KnownDevice.Of(f), inUse && PassthroughHost.IsStillOurs(found)) is { } difference)
            throw new Refusal(HoldingReasons.DriftDetected, difference);
        if (f.IsBridge)
            throw new Refusal(HoldingReasons.InvalidRequest, $"{device.Address} is a bridge: bridges are not handed out.");
        if (f.IommuGroup is null || use.UnsafeNoIommu)
            throw new Refusal(HoldingReasons.NoIommuGroup, $"{device.Address} has no IOMMU group. {HostFacts.Iommu(files).WhyNot}".TrimEnd());
        if (device.IommuGroup is { } group && f.IommuGroup != group)
            throw new Refusal(HoldingReasons.DriftDetected, $"{device.Address} is in IOMMU group {f.IommuGroup} now and was in {group} when it was given.");
    }

    private static void CheckGroups(Dictionary<PciAddress, HostFunction> found, Inventory inventory, HostUse use)
    {
        foreach (int group in found.Values.Select(f => f.Function.IommuGroup!.Value).Distinct())
        {
            foreach (HostFunction other in inventory.ReadNow(inventory.GroupMembers(group).Where(a => !found.ContainsKey(a)), use))
            {
                if (!other.Function.IsBridge)
                    throw new Refusal(HoldingReasons.DriftDetected, $"IOMMU group {group} also holds {other.Address} ({other.Function.VendorId}:{other.Function.ProductId}), which the assignment doesn't name: a group is taken whole or not at all.");
                if (!VfioDrivers.LeavesGroupViable(other.Driver))
                    throw new Refusal(HoldingReasons.GroupNotViable, $"The bridge {other.Address} of IOMMU group {group} is on {other.Driver}, which keeps VFIO from using the group: unbind it (echo {other.Address} > /sys/bus/pci/drivers/{other.Driver}/unbind) or blacklist {other.Driver}.");
            }
        }
    }
}
