using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// What this project touches of a Linux host. All paths are absolute, as on the host
/// ("/sys/bus/pci/devices/0000:21:00.0/driver"). Calls block as the kernel does: a write that unbinds a driver
/// returns when the driver has let go.
/// </summary>
/// <remarks>
/// A file or folder that isn't there (or whose device has just gone: ENOENT, ENOTDIR, ENODEV, ENXIO, ESRCH) reads as
/// null or empty; every other failure is a <see cref="HostIoException"/>.
/// </remarks>
public interface IHostFileSystem
{
    /// <summary>Whether something is at the path; links are followed.</summary>
    bool Exists(string path);

    /// <summary>The file's text without its final newline; null when absent.</summary>
    string? ReadText(string path);

    /// <summary>At most <paramref name="max"/> first bytes of the file; null when absent.</summary>
    byte[]? ReadBytes(string path, int max);

    /// <summary>A symbolic link's target as it is written; null when absent or not a link.</summary>
    string? ReadLink(string path);

    /// <summary>Names in a folder, in ordinal order; empty when absent.</summary>
    IReadOnlyList<string> List(string path);

    /// <summary>Names of the real folders (no links) in a folder, in ordinal order; empty when absent.</summary>
    IReadOnlyList<string> ListFolders(string path);

    /// <summary>Writes an existing file of the kernel's: exactly one write(2), neither created nor truncated.</summary>
    /// <exception cref="HostIoException">EBUSY, ENODEV, EINVAL, … as the kernel says.</exception>
    void Write(string path, string value);

    /// <summary>
    /// Replaces a file of ours so that after a power loss either the old or the new content is there: temporary file,
    /// fsync, rename, fsync of the folder. Makes the folder when it isn't there.
    /// </summary>
    void WriteDurably(string path, ReadOnlySpan<byte> content);

    /// <summary>
    /// As <see cref="WriteDurably"/>, for whoever else is to read it: the file is readable by all, and folders that are made can be entered.
    /// </summary>
    void WriteForOthers(string path, ReadOnlySpan<byte> content);

    /// <summary>Removes a folder of ours; nothing happens when it is absent or something is in it.</summary>
    void DeleteEmptyFolder(string path);

    /// <summary>Removes a file of ours, with fsync of the folder; nothing happens when it is absent.</summary>
    void Delete(string path);

    /// <summary>
    /// Takes a folder of ours for this process, until it ends; making it when it isn't there. Done again it changes nothing.
    /// </summary>
    /// <returns>Null: it is this process's. Otherwise who has it, in words.</returns>
    /// <exception cref="HostIoException">It can't be told who has it.</exception>
    string? TakeFolder(string folder);

    /// <summary>The number of the device node at the path (links followed, also /proc/PID/fd/N); null for anything else.</summary>
    DeviceNumber? DeviceAt(string path);

    /// <summary>
    /// Claims a whole block device as a mount does (open(2) with O_EXCL), until it is disposed: meanwhile nobody can mount it or
    /// build on it. Null: somebody has it or a partition of it (a mount in any namespace, swap, dm, md, LVM, ZFS, bcache).
    /// </summary>
    /// <exception cref="HostIoException">The node isn't there or can't be opened.</exception>
    IDisposable? ClaimBlockDevice(string node);

    /// <summary>
    /// The number of the device node that a loop device was set up on (LOOP_GET_STATUS64), whatever it was called and in whose mount
    /// namespace; null when it stands on a file, or on nothing.
    /// </summary>
    /// <param name="node">"/dev/loop0".</param>
    /// <exception cref="HostIoException">It can't be asked.</exception>
    DeviceNumber? LoopedDevice(string node);

    /// <summary>The interfaces, addresses and routes of the network namespace that the agent runs in.</summary>
    HostNetwork ReadNetwork();

    /// <summary>Loads a kernel module with the host's own modprobe (name or modalias).</summary>
    /// <exception cref="HostIoException">What modprobe said.</exception>
    void LoadModule(string name);

    /// <summary>What a PF's interface says of one of its VFs (rtnetlink, in the host's network namespace).</summary>
    /// <param name="pfInterface">The PF's network interface.</param>
    /// <param name="vf">The VF's number on its PF: N of virtfnN.</param>
    /// <returns>Null when there is no such interface, it is no Ethernet, or its driver says nothing of this VF.</returns>
    VfSettings? ReadVfSettings(string pfInterface, int vf);

    /// <summary>What a PF's interface has counted of its VFs, by their numbers (rtnetlink, in the host's network namespace).</summary>
    /// <param name="pfInterface">The PF's network interface.</param>
    /// <returns>
    /// Nothing when there is no such interface or it is no Ethernet. A driver that counts nothing says zeros, or nothing.
    /// </returns>
    /// <exception cref="HostIoException">The kernel refused; of more VFs than fit into an answer (some 220) newer ones do.</exception>
    IReadOnlyDictionary<int, VfTraffic> ReadVfTraffic(string pfInterface);

    /// <summary>Makes a VF's settings so, through its PF's interface: only what differs is set, and all of it is tried.</summary>
    /// <exception cref="HostIoException">What the PF's driver refused, in `ip link`'s words.</exception>
    void WriteVfSettings(string pfInterface, int vf, VfSettings settings);

    /// <summary>
    /// The functions that a VFIO hot reset of this one resets with it (its slot or bus), itself included, by address. Opens the
    /// function through VFIO for a moment: nobody else may have its group open.
    /// </summary>
    /// <param name="address">A function that is bound to a vfio driver.</param>
    /// <param name="group">Its IOMMU group.</param>
    /// <exception cref="HostIoException">EBUSY: the group is open elsewhere; ENODEV: neither its slot nor its bus can be reset.</exception>
    IReadOnlyList<PciAddress> HotResetTargets(PciAddress address, int group);

    /// <summary>
    /// Opens a function through VFIO as a VMM does, reads the beginning of its configuration space as a guest would see it, and
    /// closes it. Nobody else may have its group open. The kernel resets the function, where it can, at both ends.
    /// </summary>
    /// <param name="address">A function that is bound to a vfio driver.</param>
    /// <param name="group">Its IOMMU group.</param>
    /// <param name="count">How many bytes.</param>
    /// <exception cref="HostIoException">EBUSY: the group is open elsewhere; EPERM: it is not viable; EINVAL: the device can't be
    /// enabled.</exception>
    byte[] ReadConfigThroughVfio(PciAddress address, int group, int count);

    /// <summary>
    /// Resets the function's slot or bus through VFIO. The kernel refuses unless every function that is hit is on a vfio
    /// driver and in one of the groups.
    /// </summary>
    /// <param name="address">A function that is bound to a vfio driver.</param>
    /// <param name="groups">Its IOMMU group, then those of the other functions that are hit.</param>
    /// <exception cref="HostIoException">What the kernel said.</exception>
    void HotReset(PciAddress address, IReadOnlyList<int> groups);
}

/// <summary>A device node's number.</summary>
/// <param name="IsBlock">A block device; otherwise a character device.</param>
/// <param name="Major">The driver's number.</param>
/// <param name="Minor">The device's number within it.</param>
public readonly record struct DeviceNumber(bool IsBlock, uint Major, uint Minor)
{
    /// <summary>"block 259:1" or "char 195:0".</summary>
    public override string ToString() => $"{(IsBlock ? "block" : "char")} {Major}:{Minor}";
}
