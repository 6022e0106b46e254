using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Sandbox.Hosts;

/// <summary>
/// Resets as the kernel does them: drivers/pci/pci.c and vfio_pci_core.c of Linux 6.12. Its callers hold the kernel's gate.
/// </summary>
internal sealed class SimulatedResets(SimulatedState state, SimulatedKernel kernel)
{
    /// <summary>Writing 1 to reset: the first method of the list that doesn't answer ENOTTY decides.</summary>
    public void Reset(SimulatedFunction f, string value)
    {
        if (value.Trim() != "1")
            throw Error("reset", Errnos.EINVAL);
        kernel.WaitForDeviceLock(f);
        foreach (string method in (f.ChosenResets ?? f.ResetMethods).Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            int errno = IsPossible(f, method) ? f.FailingResets.GetValueOrDefault(method) : Errnos.ENOTTY;
            if (errno == Errnos.ENOTTY)
                continue;
            if (errno != 0)
                throw Error("reset", errno);
            Done(f, method);
            return;
        }

        throw Error("reset", Errnos.ENOTTY);
    }

    /// <summary>Writing reset_method: a list of methods, "default", or nothing at all.</summary>
    public static void Choose(SimulatedFunction f, string value)
    {
        string text = value.TrimEnd('\n');
        string[] methods = text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (text != "default" && !methods.All(f.ResetMethods.Split(' ').Contains))
            throw Error("reset_method", Errnos.EINVAL);
        f.ChosenResets = text == "default" ? null : string.Join(' ', methods);
    }

    /// <summary>A read of VFIO's configuration region, which has a VF's ids filled in.</summary>
    public byte[] ReadConfig(PciAddress address, int group)
    {
        SimulatedFunction f = OpenDevice(address, [group]);
        return f.OffTheBus ? SimulatedSysfs.AllOnes() : SimulatedSysfs.Config(f, f.Ids.Split(':'), throughVfio: true);
    }

    /// <summary>VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: the whole slot of a hot-plug slot, else the whole bus.</summary>
    public IReadOnlyList<PciAddress> HotResetTargets(PciAddress address, int group)
    {
        SimulatedFunction f = OpenDevice(address, [group]);
        return f.Bridge is null ? throw Error("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", Errnos.ENODEV) : [.. Hit(f).Select(m => m.At).Order()];
    }

    /// <summary>VFIO_DEVICE_PCI_HOT_RESET.</summary>
    public void HotReset(PciAddress address, IReadOnlyList<int> groups)
    {
        SimulatedFunction f = OpenDevice(address, groups);
        List<SimulatedFunction> hit = [.. Hit(f)];
        if (f.Bridge is null)
            throw Error("VFIO_DEVICE_PCI_HOT_RESET", Errnos.ENODEV);
        if (hit.Exists(m => !m.OnVfio || m.Group is not { } group || !groups.Contains(group)))
            throw Error("VFIO_DEVICE_PCI_HOT_RESET", Errnos.EINVAL);
        const string name = "vfio hot reset";
        if (hit.Select(m => m.FailingResets.GetValueOrDefault(name)).FirstOrDefault(errno => errno != 0) is var errno and not 0)
            throw Error("VFIO_DEVICE_PCI_HOT_RESET", errno);
        foreach (SimulatedFunction m in hit)
            Done(m, name);
    }

    /// <summary>Group, container and device: one user at a time, and every member off its host driver.</summary>
    private SimulatedFunction OpenDevice(PciAddress address, IReadOnlyList<int> groups)
    {
        foreach (int group in groups)
        {
            List<SimulatedFunction> members = [.. state.Functions.Where(m => m.Group == group && !m.IsBridge)];
            if (!state.VfioGroups || !members.Exists(m => m.OnVfio))
                throw Error($"open /dev/vfio/{group}", Errnos.ENOENT);
            if (members.Exists(kernel.IsOpen))
                throw Error($"open /dev/vfio/{group}", Errnos.EBUSY);
            if (members.Exists(m => m.Driver is not (null or "pci-stub") && !m.OnVfio))
                throw Error("VFIO_GROUP_SET_CONTAINER", Errnos.EPERM);
        }

        if (kernel.Find(address.ToString()) is not { OnVfio: true } f || f.Group is not { } own || groups[0] != own)
            throw Error("VFIO_GROUP_GET_DEVICE_FD", Errnos.ENODEV);
        return f.CannotBeEnabled ? throw Error("VFIO_GROUP_GET_DEVICE_FD", Errnos.EINVAL) : f;
    }

    private IEnumerable<SimulatedFunction> Hit(SimulatedFunction f) =>
        f.Slot is null ? SameBus(f) : SameBus(f).Where(m => m.At.Slot == f.At.Slot);

    private IEnumerable<SimulatedFunction> SameBus(SimulatedFunction f) =>
        state.Functions.Where(m => m.At.Domain == f.At.Domain && m.At.Bus == f.At.Bus);

    /// <summary>A reset of the bus is only a function's own where the function is alone on it.</summary>
    private bool IsPossible(SimulatedFunction f, string method) => method != "bus" || (f.Bridge is not null && SameBus(f).Count() == 1);

    private void Done(SimulatedFunction f, string method)
    {
        f.Resets++;
        f.OffTheBus = f.DeadAfterResets.Contains(method);
        f.Dirty = f.Dirty && (kernel.IsOpen(f) || f.OffTheBus);
        f.ResetWhileOpen |= kernel.IsOpen(f);
    }

    private static HostIoException Error(string operation, int errno) => new(operation, "", errno);
}
