using System.Text;
using k8s;
using k8s.KubeConfigModels;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Kubernetes;

/// <summary>
/// A kubeconfig, or several merged as kubectl does it: the first file to name a cluster, user, context or the current
/// context wins; relative paths are relative to the file that has them.
/// </summary>
/// <remarks>
/// The library reads the YAML, and what comes out is its configuration. Its own way from one to the other is not gone, because it loses
/// something at each step: it takes one certificate of an authority's bundle (so a rotation of the CA ends it) and none of a client's
/// intermediates, looks for the paths of merged files in the first file's folder, knows no <c>tokenFile</c>, and runs an exec plugin at
/// once, with its arguments joined by blanks.
/// </remarks>
internal sealed class Kubeconfig
{
    private readonly Dictionary<string, Entry<ClusterEndpoint>> _clusters = [];
    private readonly Dictionary<string, Entry<UserCredentials>> _users = [];
    private readonly Dictionary<string, Entry<ContextDetails>> _contexts = [];

    // What the library's model of a user does not have.
    private readonly Dictionary<string, YamlMappingNode> _userNodes = [];
    private string? _currentContext;
    private string _source = "kubeconfig";

    private sealed record Entry<T>(T Body, string Folder);

    public static Kubeconfig Load(string paths)
    {
        Kubeconfig? merged = null;
        foreach (string path in paths.Split(':', StringSplitOptions.RemoveEmptyEntries))
        {
            if (!File.Exists(path))
                continue;
            string text;
            try
            {
                text = File.ReadAllText(path);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new KubeconfigException($"Cannot read kubeconfig {path}: {e.Message}", e);
            }

            Kubeconfig one = Parse(text, Path.GetDirectoryName(Path.GetFullPath(path))!, path);
            if (merged is null)
                merged = one;
            else
                merged.Merge(one);
        }

        return merged ?? throw new KubeconfigException($"No kubeconfig at {paths.Replace(":", " or ", StringComparison.Ordinal)}.");
    }

    public static Kubeconfig Parse(string text, string folder, string source)
    {
        var result = new Kubeconfig { _source = source };
        try
        {
            var yaml = new YamlStream();
            yaml.Load(new StringReader(text));
            if (yaml.Documents.Count == 0)
                return result;
            if (yaml.Documents[0].RootNode is not YamlMappingNode root)
                throw new KubeconfigException($"{source} is not a kubeconfig: expected a mapping with clusters, users and contexts.");
            using var stream = new MemoryStream(Encoding.UTF8.GetBytes(text));
            result.Take(KubernetesClientConfiguration.LoadKubeConfig(stream) ?? new K8SConfiguration(), root, folder);
        }
        catch (YamlException e)
        {
            throw new KubeconfigException($"{source} is not YAML, or not a kubeconfig's: line {e.Start.Line}: {e.Message}", e);
        }

        return result;
    }

    private void Take(K8SConfiguration read, YamlMappingNode root, string folder)
    {
        _currentContext = read.CurrentContext;
        foreach (Cluster? cluster in read.Clusters ?? [])
            _clusters.TryAdd(Named(cluster.Name, "clusters"), new(cluster.ClusterEndpoint ?? new ClusterEndpoint(), folder));
        foreach (User? user in read.Users ?? [])
            _users.TryAdd(Named(user.Name, "users"), new(user.UserCredentials ?? new UserCredentials(), folder));
        foreach (Context? context in read.Contexts ?? [])
            _contexts.TryAdd(Named(context.Name, "contexts"), new(context.ContextDetails ?? new ContextDetails(), folder));
        foreach (YamlMappingNode user in (Child(root, "users") as YamlSequenceNode)?.OfType<YamlMappingNode>() ?? [])
        {
            if (Text(user, "name") is { } name && Child(user, "user") is YamlMappingNode body)
                _userNodes.TryAdd(name, body);
        }
    }

    private string Named(string? name, string list) => name ?? throw new KubeconfigException($"{_source}: an entry of {list} has no name.");

    private void Merge(Kubeconfig later)
    {
        _source = $"{_source}, {later._source}";
        _currentContext ??= later._currentContext;
        Merge(_clusters, later._clusters);
        Merge(_contexts, later._contexts);
        foreach ((string name, Entry<UserCredentials> user) in later._users)
        {
            if (_users.TryAdd(name, user) && later._userNodes.TryGetValue(name, out YamlMappingNode? node))
                _userNodes[name] = node;
        }
    }

    private static void Merge<T>(Dictionary<string, T> mine, Dictionary<string, T> theirs)
    {
        foreach ((string name, T? entry) in theirs)
            mine.TryAdd(name, entry);
    }

    public KubernetesClientConfiguration Resolve(string? contextName)
    {
        contextName ??= _currentContext;
        if (string.IsNullOrEmpty(contextName))
            throw new KubeconfigException($"{_source} has no current-context; name one of: {string.Join(", ", _contexts.Keys)}.");
        ContextDetails context = Find(_contexts, contextName, "context").Body;
        if (string.IsNullOrEmpty(context.Cluster))
            throw new KubeconfigException($"{_source}: context {contextName} names no cluster.");
        (ClusterEndpoint? cluster, string? folder) = Find(_clusters, context.Cluster, "cluster");
        if (!Uri.TryCreate(cluster.Server, UriKind.Absolute, out Uri? uri) || uri.Scheme is not ("http" or "https"))
        {
            throw new KubeconfigException(
                $"{_source}: server of context {contextName} is '{cluster.Server}'; expected a URL such as https://10.0.0.1:6443."
            );
        }

        string? authority = PemOf(cluster.CertificateAuthorityData, cluster.CertificateAuthority, folder, "certificate-authority");
        var configuration = new KubernetesClientConfiguration
        {
            Host = cluster.Server,
            Namespace = string.IsNullOrEmpty(context.Namespace) ? "default" : context.Namespace,
            SslCaCerts = authority is null ? null : Pem.ReadCertificates(authority, $"{_source}: certificate-authority"),
            SkipTlsVerify = cluster.SkipTlsVerify,
            TlsServerName = cluster.TlsServerName,
        };
        if (!string.IsNullOrEmpty(context.User))
            AddUser(configuration, context.User, authority);
        return configuration;
    }

    private void AddUser(KubernetesClientConfiguration configuration, string name, string? authority)
    {
        (UserCredentials? user, string? folder) = Find(_users, name, "user");
        string? certificate = PemOf(user.ClientCertificateData, user.ClientCertificate, folder, "client-certificate");
        string? key = PemOf(user.ClientKeyData, user.ClientKey, folder, "client-key");
        if (certificate is not null != key is not null)
        {
            throw new KubeconfigException(
                $"{_source}: user {name} has a client certificate without its key, or a key without its certificate."
            );
        }

        if (certificate is not null)
        {
            Pem.ReadCertificateWithKey(certificate, key!, $"{_source}: client certificate of user {name}").Leaf.Dispose();
            configuration.ClientCertificateData = Base64(certificate);
            configuration.ClientCertificateKeyData = Base64(key!);
        }

        // A token file goes before a token, as in client-go: the token is the one that was current when the file was written.
        YamlMappingNode? node = _userNodes.GetValueOrDefault(name);
        if (node is not null && Text(node, "tokenFile") is { Length: > 0 } tokenFile)
            configuration.TokenProvider = new TokenFile(Path.Combine(folder, tokenFile));
        else if (user.Token is { Length: > 0 } token)
            configuration.AccessToken = token;
        else if (user.ExternalExecution is { } exec)
            configuration.TokenProvider = ReadExec(exec, node, folder, name, configuration, authority);
    }

    private ExecCredentials ReadExec(
        ExternalExecution exec,
        YamlMappingNode? node,
        string folder,
        string user,
        KubernetesClientConfiguration configuration,
        string? authority
    )
    {
        if (exec.ApiVersion is not ("client.authentication.k8s.io/v1" or "client.authentication.k8s.io/v1beta1"))
        {
            throw new KubeconfigException(
                $"{_source}: exec of user {user} has apiVersion '{exec.ApiVersion}'; expected client.authentication.k8s.io/v1 or v1beta1."
            );
        }

        if (exec.Command is not { Length: > 0 } command)
            throw new KubeconfigException($"{_source}: exec of user {user} has no command.");
        if (node is not null && Child(node, "exec") is YamlMappingNode details && Text(details, "interactiveMode") == "Always")
        {
            throw new KubeconfigException(
                $"{_source}: exec of user {user} wants a terminal (interactiveMode: Always), and there is none here."
            );
        }

        // A bare name is looked up in PATH; a relative path belongs to the kubeconfig's folder.
        exec.Command = command.Contains('/', StringComparison.Ordinal) ? Path.Combine(folder, command) : command;
        return new ExecCredentials(
            exec,
            exec.ProvideClusterInfo
                ? new ExecClusterInfo(configuration.Host, configuration.TlsServerName, configuration.SkipTlsVerify, authority)
                : null
        );
    }

    private Entry<T> Find<T>(Dictionary<string, Entry<T>> entries, string name, string what) =>
        entries.TryGetValue(name, out Entry<T>? entry)
            ? entry
            : throw new KubeconfigException($"{_source} has no {what} '{name}'; it has: {string.Join(", ", entries.Keys)}.");

    /// <summary>The PEM text of <c>{key}-data</c> (base64), else of the file that <c>{key}</c> names; null when there is neither.</summary>
    private string? PemOf(string? data, string? file, string folder, string key)
    {
        try
        {
            if (!string.IsNullOrEmpty(data))
                return Encoding.UTF8.GetString(Convert.FromBase64String(data));
            return string.IsNullOrEmpty(file) ? null : File.ReadAllText(Path.Combine(folder, file));
        }
        catch (FormatException e)
        {
            throw new KubeconfigException($"{_source}: {key}-data is not base64.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new KubeconfigException($"{_source}: cannot read {key} {Path.Combine(folder, file!)}: {e.Message}", e);
        }
    }

    private static string Base64(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));

    private static YamlNode? Child(YamlMappingNode node, string key) =>
        node.Children.TryGetValue(new YamlScalarNode(key), out YamlNode? child) ? child : null;

    private static string? Text(YamlMappingNode node, string key) => (Child(node, key) as YamlScalarNode)?.Value;
}
