namespace PciOperator.Vm.Tests;

/// <summary>
/// A test that boots a kernel. Where that cannot be done it is skipped, with what is missing as the reason; in CI it fails instead.
/// </summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class VmFactAttribute : FactAttribute
{
    public VmFactAttribute() => Skip = Lab.IsCi ? null : Lab.WhyNoVirtualMachine;
}

/// <summary>A <see cref="VmFactAttribute"/> that needs a real API server on the host as well.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class ClusterFactAttribute : FactAttribute
{
    public ClusterFactAttribute() => Skip = Lab.IsCi ? null : Lab.WhyNoCluster;
}
