using Xunit.Abstractions;
using Xunit.Sdk;

namespace PciOperator.Testing;

/// <summary>Where a real API server comes from, by the environment.</summary>
public static class RealServer
{
    public static string? Binary => Variable("PCI_TEST_APISERVER");

    public static string? KubebuilderAssets => Variable("KUBEBUILDER_ASSETS");

    public static string? Kubeconfig => Variable("TEST_KUBECONFIG");

    public static bool IsConfigured => Binary is not null || KubebuilderAssets is not null || Kubeconfig is not null;

    /// <summary>Why tests that need a real server are skipped; null when they are not. In CI (<c>CI=true</c>) they never are:
    /// without a server they fail.</summary>
    public static string? SkipReason => IsConfigured || Environment.GetEnvironmentVariable("CI") == "true" ? null : HowTo;

    public const string HowTo =
        "No real API server: set PCI_TEST_APISERVER (a test API server's binary), KUBEBUILDER_ASSETS (a folder with etcd and kube-apiserver) or TEST_KUBECONFIG (any cluster that tests may write to).";

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;
}

/// <summary>A test that needs a real API server.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class RealServerFactAttribute : FactAttribute
{
    public RealServerFactAttribute() => Skip = RealServer.SkipReason;
}

/// <summary>Marks a test class whose tests all need a real API server; they are <see cref="ContractFactAttribute"/>s.</summary>
[AttributeUsage(AttributeTargets.Class)]
public sealed class NeedsRealServerAttribute : Attribute;

/// <summary>A test in a base class that runs once for each server: skipped in classes that are marked
/// <see cref="NeedsRealServerAttribute"/> when there is none.</summary>
[AttributeUsage(AttributeTargets.Method)]
[XunitTestCaseDiscoverer("PciOperator.Testing.ContractFactDiscoverer", "PciOperator.Testing")]
public sealed class ContractFactAttribute : FactAttribute;

/// <summary>Finds <see cref="ContractFactAttribute"/>s.</summary>
public sealed class ContractFactDiscoverer(IMessageSink diagnostics) : FactDiscoverer(diagnostics)
{
    protected override IXunitTestCase CreateTestCase(
        ITestFrameworkDiscoveryOptions discoveryOptions,
        ITestMethod testMethod,
        IAttributeInfo factAttribute
    ) =>
        new ContractTestCase(
            DiagnosticMessageSink,
            discoveryOptions.MethodDisplayOrDefault(),
            discoveryOptions.MethodDisplayOptionsOrDefault(),
            testMethod
        );
}

/// <summary>A test case that knows whether its class needs a real server.</summary>
public sealed class ContractTestCase : XunitTestCase
{
    [Obsolete("For deserialisation.")]
    public ContractTestCase() { }

    public ContractTestCase(IMessageSink diagnostics, TestMethodDisplay display, TestMethodDisplayOptions options, ITestMethod method)
        : base(diagnostics, display, options, method) { }

    protected override string? GetSkipReason(IAttributeInfo factAttribute) =>
        TestMethod.TestClass.Class.GetCustomAttributes(typeof(NeedsRealServerAttribute).AssemblyQualifiedName).Any()
            ? RealServer.SkipReason
            : base.GetSkipReason(factAttribute);
}
