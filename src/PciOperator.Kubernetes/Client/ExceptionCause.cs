namespace PciOperator.Kubernetes;

/// <summary>What to say of an error.</summary>
public static class ExceptionCause
{
    /// <summary>An error's message and, where another lies beneath it, that of the innermost: "the SSL connection could not be
    /// established" alone helps nobody.</summary>
    public static string Cause(this Exception error)
    {
        Exception innermost = error;
        while (innermost.InnerException is { } inner)
            innermost = inner;
        return error.Message.Contains(innermost.Message, StringComparison.Ordinal)
            ? error.Message
            : $"{error.Message.TrimEnd('.')}: {innermost.Message}";
    }
}
