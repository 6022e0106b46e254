using System.Runtime.CompilerServices;

namespace PciOperator.Vm.Tests;

/// <summary>How long a test may take that does something with a machine: one that hangs is a failure with a name, and the others have their turn.</summary>
internal static class Patience
{
    /// <summary>In milliseconds: ten minutes. The slowest test takes one and a half on two busy cores.</summary>
    public const int OfATest = 10 * 60 * 1000;
}

/// <summary>
/// A test that boots a kernel. Where that cannot be done it is skipped, with what is missing as the reason; in CI it fails instead.
/// </summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class VmFactAttribute : FactAttribute
{
    public VmFactAttribute([CallerFilePath] string? file = null, [CallerLineNumber] int line = -1)
        : base(file, line)
    {
        Timeout = Patience.OfATest;
        Skip = Lab.IsCi ? null : Lab.WhyNoVirtualMachine;
    }
}

/// <summary>A <see cref="VmFactAttribute"/> that needs a real API server on the host as well.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class ClusterFactAttribute : FactAttribute
{
    public ClusterFactAttribute([CallerFilePath] string? file = null, [CallerLineNumber] int line = -1)
        : base(file, line)
    {
        Timeout = Patience.OfATest;
        Skip = Lab.IsCi ? null : Lab.WhyNoCluster;
    }
}

/// <summary>
/// A <see cref="ClusterFactAttribute"/> that needs the agent of an earlier commit as well. Without it, it is skipped in CI too, where tests/run
/// counts a skip as a failure and prints its reason.
/// </summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class UpgradeFactAttribute : FactAttribute
{
    public UpgradeFactAttribute([CallerFilePath] string? file = null, [CallerLineNumber] int line = -1)
        : base(file, line)
    {
        Timeout = Patience.OfATest;
        Skip = (Lab.IsCi ? null : Lab.WhyNoCluster) ?? Lab.WhyNoEarlierAgent;
    }
}
