using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>Limits of a <see cref="PassthroughHost"/>.</summary>
public sealed record PassthroughHostOptions
{
    /// <summary>How long one call of the kernel may take before its holding is called Stuck. The work goes on when it returns.</summary>
    public TimeSpan WriteTimeout { get; init; } = TimeSpan.FromSeconds(30);
}

/// <summary>
/// A Linux host's passthrough: inventory, guards, journal, binding, release and SR-IOV. Thread-safe; different IOMMU
/// groups are worked on at the same time, one claim by one thread.
/// </summary>
public sealed class PassthroughHost
{
#pragma warning disable CA1822 // the members come next
    /// <summary>A host seen through <paramref name="files"/>, with its journal under <paramref name="stateDirectory"/> (absolute, on the host).</summary>
    public PassthroughHost(IHostFileSystem files, string stateDirectory, TimeProvider? time = null, ILogger? logger = null, PassthroughHostOptions? options = null)
    {
    }

    /// <summary>A holding was added, changed or removed. Raised outside of locks, from any thread.</summary>
    public event Action? Changed { add { } remove { } }

    /// <summary>What the journal holds, by claim UID; never Rejected ones.</summary>
    public IReadOnlyList<Holding> Holdings => throw new NotSupportedException();

    /// <summary>Looks at every PCI function and its guards.</summary>
    public HostSnapshot Scan() => throw new NotSupportedException();

    /// <summary>Loads the journal; entries stay as they are until they are prepared or released again.</summary>
    public Task RecoverAsync(CancellationToken ct = default) => throw new NotSupportedException();

    /// <summary>Binds the claim's devices and verifies them.</summary>
    public Task<Holding> PrepareAsync(AssignmentRequest request, CancellationToken ct = default) => throw new NotSupportedException();

    /// <summary>Gives the claim's devices back; null when nothing is held for it any more.</summary>
    public Task<Holding?> ReleaseAsync(string claimUid, CancellationToken ct = default) => throw new NotSupportedException();

    /// <summary>Gives a PF a number of VFs, through 0 when it has another number.</summary>
    public Task<SriovOutcome> SetVfsAsync(PciAddress pf, int numVfs, bool? autoprobe = null, CancellationToken ct = default) => throw new NotSupportedException();
}
