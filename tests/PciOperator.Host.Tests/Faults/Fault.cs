using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests.Faults;

/// <summary>What befalls an access.</summary>
internal enum FaultKind
{
    /// <summary>The host refuses this access, and answers the next one.</summary>
    Error,

    /// <summary>The host refuses this path from now on.</summary>
    LastingError,

    /// <summary>The change has had its effect, and the host says an error nevertheless.</summary>
    ErrorAfter,

    /// <summary>The call doesn't return for a long time, and then goes on.</summary>
    Hang,

    /// <summary>As <see cref="Hang"/>, after the change has had its effect.</summary>
    HangAfter,

    /// <summary>The call doesn't return, and the claim is released meanwhile.</summary>
    HangWithdrawn,

    /// <summary>The device is pulled out.</summary>
    Gone,

    /// <summary>The agent is killed.</summary>
    Crash,

    /// <summary>The agent is killed, and the host rebooted.</summary>
    CrashReboot,

    /// <summary>The agent is killed while the kernel holds its call; the next agent starts while it still does.</summary>
    CrashInHang,

    /// <summary>The host is rebooted while the kernel holds the call.</summary>
    RebootInHang,
}

/// <summary>The errors that a kernel plausibly answers an access with.</summary>
internal static class PlausibleErrors
{
    public static IReadOnlyList<int> Of(SimulatedAccess access) =>
        access.Operation switch
        {
            SimulatedOperation.Read => [Errnos.EIO, Errnos.EACCES],
            SimulatedOperation.WriteDurably => [Errnos.ENOSPC, Errnos.EIO],
            SimulatedOperation.Delete => [Errnos.EROFS, Errnos.EIO],
            SimulatedOperation.LoadModule => [0, Errnos.ENOMEM],
            _ => access.Path[(access.Path.LastIndexOf('/') + 1)..] switch
            {
                "driver_override" => [Errnos.ENODEV, Errnos.ENOMEM],
                "unbind" => [Errnos.ENODEV, Errnos.EIO],
                "drivers_probe" => [Errnos.EINVAL, Errnos.ENODEV, Errnos.EIO],
                "sriov_numvfs" => [Errnos.EBUSY, Errnos.ENOSPC, Errnos.ETIMEDOUT, Errnos.ENOMEM],
                "sriov_drivers_autoprobe" => [Errnos.EINVAL, Errnos.EIO],
                "reset" => [Errnos.EIO, Errnos.EBUSY],
                "reset_method" => [Errnos.EINVAL, Errnos.EIO],
                _ => [Errnos.EBUSY, Errnos.EIO],
            },
        };

    public static HostIoException Exception(SimulatedAccess access, int errno) =>
        access.Operation == SimulatedOperation.LoadModule
            ? new HostIoException(
                "modprobe",
                access.Path,
                errno,
                $"modprobe {access.Path} failed with exit code 1: could not insert '{access.Path}'"
            )
            : new HostIoException(
                access.Operation == SimulatedOperation.Write ? $"write '{access.Value}' to"
                    : access.IsChange ? "write"
                    : "read",
                access.Path,
                errno
            );
}
