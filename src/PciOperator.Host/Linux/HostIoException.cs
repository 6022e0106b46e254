namespace PciOperator.Host;

/// <summary>The host refused to read, write or load something. The message is a sentence for the person who reads it.</summary>
public sealed class HostIoException : IOException
{
    /// <summary>The kernel's answer to an operation on a path.</summary>
    public HostIoException(string operation, string path, int errno)
        : base(Explain(operation, path, errno))
    {
        Operation = operation;
        Path = path;
        Errno = errno;
        HResult = errno;
    }

    /// <summary>A failure with a sentence of its own (modprobe's output, for example).</summary>
    public HostIoException(string operation, string path, int errno, string message)
        : base(message)
    {
        Operation = operation;
        Path = path;
        Errno = errno;
        HResult = errno;
    }

    /// <summary>What was tried: "write 4", "read", "modprobe", …</summary>
    public string Operation { get; }

    /// <summary>The file, as on the host.</summary>
    public string Path { get; }

    /// <summary>The kernel's errno; 0 when there was none.</summary>
    public int Errno { get; }

    private static string Explain(string operation, string path, int errno)
    {
        string said = $"{operation} {path}: {Errnos.Name(errno)} ({Errnos.Text(errno)})";
        string? advice = Advice(System.IO.Path.GetFileName(path), errno);
        return advice is null ? said + "." : $"{said}; {advice}.";
    }

    /// <summary>What is known about an errno of a sysfs file (drivers/pci/iov.c, pci-sysfs.c, base/bus.c).</summary>
    private static string? Advice(string file, int errno) =>
        (file, errno) switch
        {
            ("sriov_numvfs", Errnos.EBUSY) =>
                "VFs exist and their number can only change through 0, or the PF's driver is busy with another change: look who else sets sriov_numvfs (udev, systemd, another operator)",
            ("sriov_numvfs", Errnos.EAGAIN) => "the PF's driver is busy (a reset, or its VFs are still coming up); it is tried again",
            ("sriov_numvfs", Errnos.ERANGE) =>
                "the device has fewer VFs than that: see sriov_totalvfs, and the card's own settings (mlxconfig NUM_OF_VFS, for example)",
            ("sriov_numvfs", Errnos.ENOENT) => "the PF has no driver, or its driver can't make VFs: bind the PF to its own driver first",
            ("sriov_numvfs", Errnos.EINVAL) =>
                "the PF's driver refused that number: its firmware may have SR-IOV off, or it wants its VFs' users gone first; the kernel log (dmesg) says why",
            ("sriov_numvfs", Errnos.EPERM) =>
                "the PF's driver refused: a VF is assigned to a guest, or a feature in use rules VFs out (DCB or XDP on the PF); the kernel log (dmesg) says which",
            ("sriov_numvfs", Errnos.ENOSPC) =>
                "the firmware left no bus numbers or memory for that many VFs: enable SR-IOV in the BIOS, or boot with pci=realloc or pci=assign-busses",
            ("sriov_numvfs", Errnos.ENOMEM) =>
                "the firmware left no memory window or bus numbers for the VFs: enable SR-IOV and Above 4G Decoding in the BIOS, or boot with pci=realloc (pci=assign-busses for bus numbers)",
            ("sriov_numvfs", Errnos.ETIMEDOUT) =>
                "the PF's firmware didn't answer: look at the kernel log (dmesg), and reset or power-cycle the card",
            ("sriov_numvfs", Errnos.EIO) =>
                "the card failed: its firmware and its SR-IOV capability disagree, or it doesn't answer; look at the kernel log (dmesg), update the firmware or power-cycle the card",
            ("sriov_numvfs", Errnos.ENODEV) =>
                "the card is gone, or the function that its VFs depend on is: look at lspci, and reseat or power-cycle the card",
            ("bind", Errnos.ENODEV) => "driver_override names another driver, or the driver doesn't know the device",
            ("bind", Errnos.EBUSY) => "the device has a driver already, or another driver of its IOMMU group is in the way",
            ("bind", Errnos.EINVAL) => "vfio-pci needs an IOMMU group: is the IOMMU enabled?",
            ("reset", Errnos.ENOTTY) => "no method of its reset_method works where the device sits",
            ("reset_method", Errnos.EINVAL) => "the kernel doesn't know that method for this device",
            ("unbind", Errnos.ENODEV) => "the device isn't bound to that driver any more",
            ("drivers_probe", Errnos.ENODEV) => "the device is gone",
            (_, Errnos.EACCES) or (_, Errnos.EPERM) =>
                "the agent must run as root with the host's /sys writable, and kernel lockdown may forbid it",
            (_, Errnos.EROFS) => "the file system is mounted read-only: the agent needs the host's /sys writable",
            (_, Errnos.ENOSPC) => "the disk is full",
            _ => null,
        };
}
