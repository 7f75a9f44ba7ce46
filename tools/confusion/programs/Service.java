// SPDX-License-Identifier: Apache-2.0
// A service that keeps the answers of requests: `bounded` keeps 500, `growing` keeps all.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayDeque;
import java.util.Arrays;

public class Service {
    private static final ArrayDeque<byte[]> KEPT = new ArrayDeque<>();

    private static int remember(int number) {
        byte[] answer = new byte[4000 + number % 101];
        Arrays.fill(answer, (byte) number);
        KEPT.add(answer);
        return answer.length;
    }

    public static void main(String[] arguments) throws Exception {
        boolean bounded = arguments.length > 0 && arguments[0].equals("bounded");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        int number = 0;
        long held = 0;
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            for (int left = Integer.parseInt(line.trim()); left > 0; left--) {
                held += remember(number++);
                if (bounded && KEPT.size() > 500) {
                    held -= KEPT.remove().length;
                }
            }
            System.out.println("held " + held);
        }
    }
}
