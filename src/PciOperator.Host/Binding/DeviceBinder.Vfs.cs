using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>VFs: those that go with a PF and are made again, and what a PF keeps for one that had an owner.</summary>
internal sealed partial class DeviceBinder
{
    private const int Attempts = 5;
    private static readonly TimeSpan BetweenAttempts = TimeSpan.FromMilliseconds(200);

    /// <summary>Called with a VF that keeps what its owner left, and a sentence: it must not go to another.</summary>
    public Action<JournalDevice, string>? NotClean { get; init; }

    /// <summary>Called with a sentence about what could not be put back and harms nobody.</summary>
    public Action<string>? Warn { get; init; }

    /// <summary>Removes a PF's VFs.</summary>
    public void RemoveVfs(PciAddress pf)
    {
        if (NumVfs(pf) is not > 0)
            return;
        Do($"removing the VFs of {pf}", () => files.Write($"{SysfsPaths.Device(pf)}/sriov_numvfs", "0"));
        if (NumVfs(pf) is > 0)
        {
            throw new RefusalException(
                HoldingReasons.BindFailed,
                $"The kernel took 0 as the number of VFs of {pf}, but still shows {NumVfs(pf)}."
            );
        }
    }

    /// <summary>What a PF keeps for a VF; null when it isn't a VF, or nothing is known.</summary>
    public VfSettings? SettingsOf(HostFunction vf) =>
        vf.Function.ParentAddress is { } pf
        && InterfacesOf(pf) is { Count: > 0 } interfaces
        && Inventory.VfIndexOf(files, pf, vf.Address) is { } index
            ? Find(interfaces, index)?.Settings
            : null;

    /// <summary>How a PF's free VFs are, to make them so again.</summary>
    public List<JournalVf> VfsAsTheyAre(PciAddress pf, IReadOnlyList<HostFunction> vfs)
    {
        Dictionary<int, PciAddress> numbered = Inventory.NumberedVfsOf(files, pf);
        IReadOnlyList<string> interfaces = InterfacesOf(pf);
        return
        [
            .. from vf in vfs
            where vf.Function.ParentAddress == pf
            from index in numbered.Where(v => v.Value == vf.Address).Select(v => v.Key)
            orderby index
            select new JournalVf(index, vf.Driver, vf.DriverOverride, Find(interfaces, index)?.Settings),
        ];
    }

    /// <summary>sriov_drivers_autoprobe; null when the kernel has none.</summary>
    public bool? AutoprobeOf(PciAddress pf) =>
        files.ReadText($"{SysfsPaths.Device(pf)}/sriov_drivers_autoprobe") switch
        {
            "1" => true,
            "0" => false,
            _ => null,
        };

    /// <summary>
    /// A VF's settings on its PF as they were. What can't be put back doesn't hold up its release; the VF is named as not clean.
    /// </summary>
    private void RestoreSettings(JournalDevice device)
    {
        if (
            device.OriginalVf is not { } wanted
            || device.ParentAddress is not { } pf
            || Inventory.VfIndexOf(files, pf, device.Address) is not { } index
        )
        {
            return;
        }

        // On its own driver again after an interruption: that has chosen a MAC if the VF had none.
        string? driver = Inventory.DriverOf(files, device.Address);
        bool back = driver is not null && driver == device.OriginalDriver && driver != device.TargetDriver;
        if (Settle(pf, index, wanted, anyMac: back && wanted.Mac == VfSettings.NoMac) is { } wrong)
            NotClean?.Invoke(device, wrong);
    }

    /// <summary>Sets what differs and looks again; a PF's driver may be busy with the VF's reset for a moment.</summary>
    /// <returns>What still differs, as a sentence; null when nothing does.</returns>
    private string? Settle(PciAddress pf, int index, VfSettings wanted, bool anyMac)
    {
        string? said = null;
        IReadOnlyList<string> different = [];
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            if (attempt > 0)
                work.Pause(BetweenAttempts);
            try
            {
                for (int look = 0; look < 2; look++)
                {
                    if (Find(InterfacesOf(pf), index) is not var (netInterface, now))
                    {
                        said = $"no network interface of {pf} shows its VF {index} (it may be in another network namespace)";
                        break;
                    }

                    VfSettings goal = anyMac ? wanted with { Mac = now.Mac } : wanted;
                    different = [.. now.DifferencesFrom(goal)];
                    if (different.Count == 0)
                        return null;
                    if (look == 0)
                        files.WriteVfSettings(netInterface, index, goal);
                }
            }
            catch (HostIoException e)
            {
                said = e.Message.TrimEnd('.');
                if (e.Errno is Errnos.EOPNOTSUPP or Errnos.EPERM)
                    break;
            }
        }

        return $"VF {index} of {pf} keeps what its last owner left{(different.Count > 0 ? $" ({string.Join(", ", different)})" : "")}{(said is null ? "" : $": {said}")}.";
    }

    /// <summary>The PF's interface that knows the VF (representors of VFs are under the PF too, and know none), and what it says.</summary>
    private (string Interface, VfSettings Settings)? Find(IReadOnlyList<string> interfaces, int index)
    {
        foreach (string name in interfaces)
        {
            if (files.ReadVfSettings(name, index) is { } settings)
                return (name, settings);
        }

        return null;
    }

    /// <summary>
    /// As many VFs as a PF had, each as it was. They are made without their drivers when they have settings, since a VF's driver
    /// takes the MAC that it finds.
    /// </summary>
    private void RestoreVfs(JournalDevice device)
    {
        PciAddress pf = device.Address;
        if (device.OriginalNumVfs is not (> 0 and var count) || Inventory.DriverOf(files, pf) != device.OriginalDriver)
            return;
        string folder = SysfsPaths.Device(pf);
        IReadOnlyList<JournalVf> vfs = device.OriginalVfs ?? [];
        if (NumVfs(pf) == 0)
        {
            if (device.OriginalAutoprobe == true && vfs.Any(v => v.Settings is not null) && AutoprobeOf(pf) == true)
                files.Write($"{folder}/sriov_drivers_autoprobe", "0");
            Do($"making {count} VFs of {pf} again", () => files.Write($"{folder}/sriov_numvfs", $"{count}"));
        }

        int? now = NumVfs(pf);
        if (now != count)
            Warn?.Invoke($"{pf} had {count} VFs before it was taken and has {now} now.");
        Dictionary<int, PciAddress> there = Inventory.NumberedVfsOf(files, pf);
        foreach (JournalVf vf in vfs.Where(v => v.Settings is not null && there.ContainsKey(v.Index)))
        {
            bool back = Inventory.DriverOf(files, there[vf.Index]) is not null && vf.Settings!.Mac == VfSettings.NoMac;
            if (Settle(pf, vf.Index, vf.Settings!, anyMac: back) is { } wrong)
                Warn?.Invoke($"The settings of a VF that was made again differ from what they were: {wrong}");
        }

        if (device.OriginalAutoprobe is { } autoprobe && AutoprobeOf(pf) is { } set && set != autoprobe)
            files.Write($"{folder}/sriov_drivers_autoprobe", autoprobe ? "1" : "0");
        foreach (JournalVf vf in vfs.Where(v => there.ContainsKey(v.Index)))
            RestoreDriver(there[vf.Index], vf);
    }

    private void RestoreDriver(PciAddress address, JournalVf vf)
    {
        try
        {
            string? driver = Inventory.DriverOf(files, address);
            if (driver != vf.Driver)
                Rebind(address, driver, vf.Driver, vf.DriverOverride);
            SetOverride(address, vf.DriverOverride);
        }
        catch (RefusalException e)
        {
            Warn?.Invoke($"A VF that was made again is not as it was: {e.Message}");
        }
    }

    private IReadOnlyList<string> InterfacesOf(PciAddress pf) => files.List($"{SysfsPaths.Device(pf)}/net");

    private int? NumVfs(PciAddress pf) => Inventory.Number(files.ReadText($"{SysfsPaths.Device(pf)}/sriov_numvfs"));
}
