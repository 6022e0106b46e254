using System.Diagnostics;

namespace PciOperator.Testing;

/// <summary>
/// The real kubectl, for what users do with it. Where it is not there the test that uses it is skipped (<see cref="Requirement"/>).
/// </summary>
public static class Kubectl
{
    /// <summary>The checkout's top folder.</summary>
    public static string Repository { get; } = FindRepository();

    private static bool IsThere =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => File.Exists(Path.Combine(folder, "kubectl")));

    /// <summary>Runs kubectl; what it prints.</summary>
    /// <exception cref="InvalidOperationException">It failed; the message has what it said.</exception>
    public static async Task<string> RunAsync(string kubeconfigText, params string[] arguments)
    {
        (int code, string text) = await TryAsync(kubeconfigText, null, arguments);
        return code == 0 ? text : throw new InvalidOperationException($"kubectl {string.Join(' ', arguments)} ended with {code}: {text}");
    }

    /// <summary>Applies YAML by server-side apply with strict validation; kubectl's exit code and all that it printed.</summary>
    public static Task<(int Code, string Text)> TryApplyAsync(string kubeconfigText, string yaml, params string[] more) =>
        TryAsync(kubeconfigText, yaml, ["apply", "--server-side", "--validate=strict", "-f", "-", .. more]);

    /// <summary>Runs kubectl, with something on its standard input; its exit code and all that it printed.</summary>
    public static async Task<(int Code, string Text)> TryAsync(string kubeconfigText, string? input, params string[] arguments)
    {
        if (!IsThere)
            Requirement.IsMissing("kubectl is not on the PATH.");
        return await TryProgramAsync("kubectl", kubeconfigText, input, arguments);
    }

    /// <summary>Runs any program that reads KUBECONFIG as kubectl does; its exit code and all that it printed.</summary>
    public static async Task<(int Code, string Text)> TryProgramAsync(
        string program,
        string kubeconfigText,
        string? input,
        params string[] arguments
    )
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("pcioperator-kubectl-");
        try
        {
            string kubeconfig = Path.Combine(folder.FullName, "kubeconfig");
            await File.WriteAllTextAsync(kubeconfig, kubeconfigText);
            var start = new ProcessStartInfo(program, arguments)
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            start.Environment["KUBECONFIG"] = kubeconfig;
            start.Environment["KUBECACHEDIR"] = Path.Combine(folder.FullName, "cache");
            using Process process = Process.Start(start)!;
            if (input is not null)
                await process.StandardInput.WriteAsync(input);
            process.StandardInput.Close();
            Task<string> output = process.StandardOutput.ReadToEndAsync();
            Task<string> errors = process.StandardError.ReadToEndAsync();
            await process.WaitForExitAsync();
            return (process.ExitCode, await output + await errors);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static string FindRepository()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "PciOperator.sln")))
            folder = folder.Parent;
        return folder?.FullName ?? throw new InvalidOperationException("The tests do not run inside a checkout.");
    }
}
