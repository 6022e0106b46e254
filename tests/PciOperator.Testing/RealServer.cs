namespace PciOperator.Testing;

/// <summary>Where a real API server comes from, by the environment.</summary>
public static class RealServer
{
    public static string? Binary => Variable("PCI_TEST_APISERVER");

    public static string? KubebuilderAssets => Variable("KUBEBUILDER_ASSETS");

    public static string? Kubeconfig => Variable("TEST_KUBECONFIG");

    /// <summary>The image that k3s is started from, or what stands in for it; null: any of rancher/k3s that the engine has.</summary>
    public static string? K3sImage => Variable("PCI_TEST_K3S_IMAGE");

    public const string HowTo =
        "No real API server: set PCI_TEST_APISERVER (a test API server's binary), KUBEBUILDER_ASSETS (a folder with etcd and kube-apiserver) or TEST_KUBECONFIG (any cluster that tests may write to).";

    private static string? Variable(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;
}
